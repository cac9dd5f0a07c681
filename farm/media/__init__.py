"""Images, audio and video: probing, decoding, encoding, speech synthesis and muxing."""
