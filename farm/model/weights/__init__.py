"""From the published files to a folder that the model loads: pull, convert, check.

sources      which repositories and files, as data
lock         the commits and the content of the first pull
pull         downloads them into the hub's cache, resuming where it stopped
tensorfile   reads and writes files of tensors, one tensor at a time
quanto       reads quantised files as plain tensors
key_maps     the original names of tensors and diffusers'
folder       a folder that appears whole or not at all
convert      the original layout into diffusers'
fingerprint  twelve digits that tell weights apart
check        every tensor's name and shape, from the files' headers alone
"""
