"""Transfer learning compared on your own data: feature extraction, fine-tuning and all between."""

__version__ = "0.1.0"
