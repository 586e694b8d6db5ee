"""What all trainers share: plain functions and small holders, and nothing of any method.

The step of a method stands in its trainer. Here is what surrounds it: `launch` (ranks, device, signals), `config`
(presets and flags), `digits` and `sources` (which images), `data` (in which order, resumable), `views` (how they are
augmented), `models` (timm encoders), `optimise` (precision, DDP, schedules), `checkpoint`, `log`, `plots`, `evaluate`.
"""
