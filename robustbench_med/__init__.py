"""medrobust: the adversarial-robustness benchmark for multimodal medical imaging."""

__version__ = "0.1.0"
