"""From the published files to a folder that the model loads: pull, convert, check.

sources      which repositories and files, as data
lock         the commits and the content of the first pull
pull         downloads them into the hub's cache, resuming where it stopped

tensorfile   files of tensors, one tensor at a time; safetensors, in and out
pickle_file  the same from torch.save's files
gguf_file    the same from GGUF
quanto       optimum-quanto's weights as plain tensors
scaled       ComfyUI's scaled float8 weights as plain tensors
containers   which of these a file is, by its first bytes
rounding     what it costs that weights are rounded

key_maps     the original names of tensors and diffusers'
naming       whose names a file has
identify     what model it holds, by names and shapes
search       the weights in a folder
selection    which of them become which part, and all that is wrong

folder       a folder that appears whole or not at all
convert      all of it into diffusers' layout
fingerprint  twelve digits that tell weights apart
check        every tensor's name and shape, from the files' headers alone
"""
