"""Tensors only: InfiniteTalk on diffusers' and transformers' parts.

Conditions of one chunk go in, frames come out. Nothing here knows of jobs, stores or queues, and
importing this package loads no model and no torch.
"""
