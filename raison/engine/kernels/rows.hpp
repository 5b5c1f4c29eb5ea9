// Rows of activations in memory that is kept between steps, and their rounding to 8 bits.
#pragma once

#include "product.hpp"

namespace raison {

inline float dot(const float* a, const float* b, int n) {
    Vec acc{};
    int i = 0;
    for (; i + LANES <= n; i += LANES) acc += load(a + i) * load(b + i);
    float tail = 0;
    for (; i < n; i++) tail += a[i] * b[i];
    return sum(acc) + tail;
}

inline void normalise(const float* x, const float* weight, int n, float epsilon, float* out) {
    const float inverse = 1.0f / std::sqrt(dot(x, x, n) / n + epsilon);
    for (int i = 0; i < n; i++) out[i] = x[i] * inverse * weight[i];
}

// Floats with a stride of whole vectors; where weights are rounded, each row can have its groups of 8 bits beside it.
class Rows {
  public:
    void fit(int rows, int columns, bool rounds = false) {
        columns_ = columns;
        stride_ = (columns + GROUP - 1) / GROUP * GROUP;
        groups_ = stride_ / GROUP;
        grow(data_, (size_t)rows * stride_);
        if (!rounds) return;
        grow(bytes_, (size_t)rows * stride_);
        grow(scale_, (size_t)rows * groups_), grow(total_, (size_t)rows * groups_), grow(start_, (size_t)rows * groups_);
    }

    float* row(int i) { return data_.data() + (int64_t)i * stride_; }
    int64_t stride() const { return stride_; }

    // The first `columns` of row i, or all, as 8 bits: groups of 32 with the largest at 127.
    void round(int i, int columns = -1) {
        float* x = row(i);
        if (columns < 0) columns = columns_;
        for (int k = columns; k < (columns + GROUP - 1) / GROUP * GROUP; k++) x[k] = 0;
        for (int g = 0; g * GROUP < columns; g++) {
            Vec most{};
            for (int k = 0; k < GROUP; k += LANES) {
                const Vec v = load(x + g * GROUP + k);
                most = larger(most, larger(v, -v));
            }
            const float top = largest(most), inverse = top > 0 ? 127 / top : 0;
            const int64_t at = (int64_t)i * groups_ + g;
            int8_t* q = bytes_.data() + (int64_t)i * stride_ + g * GROUP;
            int32_t total = 0;
            for (int k = 0; k < GROUP; k += LANES) total += round_bytes(load(x + g * GROUP + k), inverse, q + k);
            scale_[at] = top / 127;
            total_[at] = top / 127 * (float)total;
            start_[at] = -CENTRE * total;
        }
    }

    In in(int i) {
        const int64_t at = (int64_t)i * groups_;
        if (bytes_.empty()) return {row(i), {}};
        return {row(i), {bytes_.data() + (int64_t)i * stride_, scale_.data() + at, total_.data() + at, start_.data() + at}};
    }

  private:
    template <class T>
    static void grow(std::vector<T>& to, size_t size) {
        if (to.size() < size) to.resize(size);
    }
    std::vector<float> data_, scale_, total_;
    std::vector<int8_t> bytes_;
    std::vector<int32_t> start_;
    int columns_ = 0, groups_ = 0;
    int64_t stride_ = 0;
};

}  // namespace raison
