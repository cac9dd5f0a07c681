"""From the published files to a folder that the model loads: pull, convert, check.

sources      which repositories and files, as data
pull         downloads them into the hub's cache, going on where it stopped
tensorfile   what a file of tensors holds, read one tensor at a time, and written so
folder       a folder that appears whole or not at all
convert      the published layouts into ours
check        every tensor's name and shape, from the files' headers alone
"""
