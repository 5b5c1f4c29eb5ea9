"""Builds the native step, twice; all else is in pyproject.toml. Without a compiler the engine runs on PyTorch."""

from glob import glob

from setuptools import Extension, setup

KERNELS = "raison/engine/kernels"
COMMON = ["-std=c++20", "-O3", "-pthread", "-Wall", "-Wno-maybe-uninitialized"]
VARIANTS = {
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mf16c", "-mfma"],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
}

setup(
    ext_modules=[
        Extension(
            f"raison.engine.kernels._step_{name}",
            [f"{KERNELS}/step.cpp"],
            depends=sorted(glob(f"{KERNELS}/*.hpp")),
            extra_compile_args=COMMON + flags,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name, flags in VARIANTS.items()
    ]
)
