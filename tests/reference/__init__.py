"""Numbers that the original InfiniteTalk computed, and a runner that compares ours.

`python -m tests.reference FOLDER...` takes case folders: `case.json` says what was run (commit
0107cd9 of MeiGen-AI/InfiniteTalk, float32, on a CPU, a miniature model), `expected.safetensors`
what came out. Weights and inputs are not stored, they are drawn by name.
"""
