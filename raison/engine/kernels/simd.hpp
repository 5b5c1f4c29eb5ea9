// Vectors of floats as wide as the target's registers, and the few functions on them that the step needs.
//
// One source for AVX-512 and AVX2: the compiler's flags choose. Arithmetic is the compiler's vector extension, contracted
// to fused multiply-adds. Not covered: machines without AVX2 (the PyTorch runner serves them).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace raison {

#if defined(__AVX512F__)
constexpr int LANES = 16, PANEL_VECTORS = 4, ROW_BLOCK = 6;  // 24 accumulators, 4 weights, 1 activation of 32 registers
#else
constexpr int LANES = 8, PANEL_VECTORS = 2, ROW_BLOCK = 6;  // 12 accumulators, 2 weights, 1 activation of 16 registers
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4)));

inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline Vec all(float x) { return Vec{} + x; }

inline float sum(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    __m256 x = (__m256)v;
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
#endif
}

inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

inline float largest(Vec v) {
    float best = v[0];
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
}

// e^x to about one unit in the last place: x = n ln 2 + r, a polynomial in r (Cephes' expf), 2^n by its exponent bits.
// Below -87 the result is 0, so that a masked score weighs nothing; NaN stays NaN.
inline Vec exponential(Vec x) {
    const Vec high = all(88.3762626647949f), low = all(-87.0f);
    Vec clipped = x > high ? high : x;
    clipped = clipped < low ? low : clipped;
    const Vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
    Vec n = clipped * 1.44269504088896341f + magic;
    const IntVec bits = (IntVec)n - (IntVec)magic;
    n -= magic;
    Vec r = clipped - n * 0.693359375f;
    r += n * 2.12194440e-4f;
    Vec y = all(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    y *= (Vec)((bits + 127) << 23);
    return x < low ? Vec{} : y;
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

inline int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

}  // namespace raison
