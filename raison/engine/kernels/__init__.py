"""Native code for the hot path, behind one seam (native.py); engine/runner.py and sampler.py are its PyTorch twins."""
