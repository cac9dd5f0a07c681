"""From the published files to a folder that the model loads: pull, convert, check.

sources      which repositories and files, as data
pull         downloads them into the hub's cache, resuming where it stopped
tensorfile   reads and writes files of tensors, one tensor at a time
rounded      reads eight-bit files as plain tensors
key_maps     the published names of tensors and ours
folder       a folder that appears whole or not at all
convert      the published layouts into ours
check        every tensor's name and shape, from the files' headers alone
"""
