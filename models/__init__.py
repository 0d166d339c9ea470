"""Victims: MAIL, Robust-MAIL and fusion baselines behind one contract.

A victim is an `nn.Module` with `forward(*modalities) -> tuple of logits`: modality m is (B, C_m, H,
W), float32 in [0, 1], logits t are (B, classes_t). Its attributes `n_modalities`, `class_counts`
and `stochastic` tell the truth. Normalisation lives inside, so attacks work in pixel space.
Optional: `shares_noise`, true when one random draw serves a whole batch; `penalty()`, a scalar
    added to the training loss; and `warm_up(progress)`, called before every training step with the
    share of the training that
is done.
"""
