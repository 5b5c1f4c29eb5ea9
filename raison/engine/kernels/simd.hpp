// Vectors of floats and of bytes as wide as the target's registers, and the few functions on them that the step needs.
//
// One source for AVX-512 with VNNI and for AVX2: the compiler's flags choose. Arithmetic on floats is the compiler's
// vector extension, contracted to fused multiply-adds. Not covered: machines without AVX2 (the PyTorch runner serves
// them).
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

// The sums of four vectors: partial sums of all stand beside each other before they are added up.
inline void sums_of_four(Vec x, Vec y, Vec z, Vec u, float* out) {
#if defined(__AVX512F__)
    const __m512 a = (__m512)x, b = (__m512)y, c = (__m512)z, d = (__m512)u;
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
#else
    const __m256 a = (__m256)x, b = (__m256)y, c = (__m256)z, d = (__m256)u;
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    const __m256 half = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
#endif
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

// A bit for each number of `a` that is not below that of `b`.
inline uint32_t at_least(Vec a, Vec b) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
#else
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GE_OQ));
#endif
}

inline float largest(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    float best = v[0];
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
#endif
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

inline float half_at(const char* p) {
    uint16_t bits;
    std::memcpy(&bits, p, 2);
    return _cvtsh_ss(bits);
}

inline uint16_t to_half(float x) { return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }

// Dot products of four bytes: `w` unsigned as stored, `x` signed, added to 32-bit sums. Bytes are stored 128 too high;
// with VNNI the sums begin lower for that, with AVX2 the offset is taken off first, as its sums of pairs would overflow.
#if defined(__AVX512F__)

typedef __m512i Ints;

inline Ints load_ints(const char* p) { return _mm512_loadu_si512(p); }
inline Ints all_ints(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints dot_bytes(Ints sum, Ints w, Ints x) { return _mm512_dpbusd_epi32(sum, w, x); }
inline Ints dot_nibbles(Ints sum, Ints w, Ints x) { return _mm512_dpbusd_epi32(sum, w, x); }
inline Ints low_nibbles(Ints w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
inline Ints high_nibbles(Ints w) { return _mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15)); }
inline Vec to_floats(Ints x) { return (Vec)_mm512_cvtepi32_ps(x); }
inline Vec fused(Vec a, Vec b, Vec c) { return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline Vec load_halves(const char* p) { return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void store_halves(char* p, Vec x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec load_bytes(const char* p) {
    return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
constexpr int BYTE_OFFSET = 128;

// x * inverse to the nearest integers, which fit a byte; returns their sum.
inline int32_t round_bytes(Vec x, float inverse, int8_t* out) {
    const Ints q = _mm512_cvtps_epi32((__m512)(x * inverse));
    _mm_storeu_si128((__m128i*)out, _mm512_cvtepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
}

#else

typedef __m256i Ints;

inline Ints load_ints(const char* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Ints all_ints(int32_t x) { return _mm256_set1_epi32(x); }
inline Ints dot_nibbles(Ints sum, Ints w, Ints x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
inline Ints dot_bytes(Ints sum, Ints w, Ints x) {
    const Ints v = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
    return dot_nibbles(sum, _mm256_abs_epi8(v), _mm256_sign_epi8(x, v));
}
inline Ints low_nibbles(Ints w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
inline Ints high_nibbles(Ints w) { return _mm256_and_si256(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15)); }
inline Vec to_floats(Ints x) { return (Vec)_mm256_cvtepi32_ps(x); }
inline Vec fused(Vec a, Vec b, Vec c) { return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
inline Vec load_halves(const char* p) { return (Vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
inline void store_halves(char* p, Vec x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec load_bytes(const char* p) {
    return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
constexpr int BYTE_OFFSET = 0;

inline int32_t round_bytes(Vec x, float inverse, int8_t* out) {
    int32_t q[8], total = 0;
    _mm256_storeu_si256((__m256i*)q, _mm256_cvtps_epi32((__m256)(x * inverse)));
    for (int i = 0; i < 8; i++) out[i] = (int8_t)q[i], total += q[i];
    return total;
}

#endif

inline Ints quad_at(const int8_t* p) {
    int32_t four;
    std::memcpy(&four, p, 4);
    return all_ints(four);
}

}  // namespace raison
