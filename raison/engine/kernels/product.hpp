// Products of many rows with one weight matrix that was packed for them, and what becomes of the results.
//
// A matrix [F outputs, K inputs] is cut into panels of PANEL_VECTORS * LANES outputs, each stored [K][outputs], so that a
// block of ROW_BLOCK rows keeps its sums in registers and reads the panel front to back. Every sum runs over k in order,
// one multiply-add after the other, whatever the block: a row's numbers do not depend on the rows beside it.
#pragma once

#include <memory>
#include <vector>

#include "simd.hpp"

namespace raison {

constexpr int PANEL = PANEL_VECTORS * LANES;

// One output of a matrix: where its first weight stands, and how far apart its inputs are. No weights mean zeros.
struct Row {
    const float* first = nullptr;
    int step = 1;
};

inline void append(std::vector<Row>& rows, const float* matrix, int outputs, int inputs) {
    for (int f = 0; f < outputs; f++) rows.push_back({matrix + (int64_t)f * inputs, 1});
}

// Gate and up of a feed-forward, alternating by half a panel, so that both sums of an inner unit meet in one block.
inline std::vector<Row> paired(const float* gate, const float* up, int inner, int inputs) {
    std::vector<Row> rows;
    for (int first = 0; first < inner;) {
        const int width = inner - first >= PANEL / 2 ? PANEL / 2 : padded(inner - first);
        for (const float* matrix : {gate, up})
            for (int i = first; i < first + width; i++)
                rows.push_back(i < inner ? Row{matrix + (int64_t)i * inputs, 1} : Row{});
        first += width;
    }
    return rows;
}

class Panels {
  public:
    void pack(const std::vector<Row>& rows, int inputs) {
        inputs_ = inputs;
        outputs_ = padded((int)rows.size());
        const size_t size = (size_t)outputs_ * inputs;
        if (size != size_) data_.reset(static_cast<float*>(::operator new[](size * 4, std::align_val_t(64))));
        size_ = size;
        for (int start = 0; start < outputs_; start += PANEL) {
            const int width = outputs_ - start < PANEL ? outputs_ - start : PANEL;
            float* panel = data_.get() + (size_t)start * inputs;
            for (int j = 0; j < width; j++) {
                const Row row = start + j < (int)rows.size() ? rows[start + j] : Row{};
                for (int k = 0; k < inputs; k++) panel[k * width + j] = row.first ? row.first[(int64_t)k * row.step] : 0;
            }
        }
    }

    int inputs() const { return inputs_; }
    int outputs() const { return outputs_; }
    const float* panel(int start) const { return data_.get() + (size_t)start * inputs_; }

  private:
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    int inputs_ = 0, outputs_ = 0;
    size_t size_ = 0;
    std::unique_ptr<float[], Free> data_;
};

// Where results go. `at(m, column, sums)` receives NV vectors of row m from output `column` on.
struct Store {
    float* out;
    int stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        for (int n = 0; n < NV; n++) store(out + (int64_t)m * stride + column + n * LANES, sums[n]);
    }
};

struct Add {
    float* out;
    int stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + (int64_t)m * stride + column;
        for (int n = 0; n < NV; n++) store(to + n * LANES, load(to + n * LANES) + sums[n]);
    }
};

// silu(gate) * up of `paired` outputs.
struct Gated {
    float* out;
    int stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + (int64_t)m * stride + column / 2;
        for (int n = 0; n < NV / 2; n++) store(to + n * LANES, sums[n] * sigmoid(sums[n]) * sums[n + NV / 2]);
    }
};

// Row m belongs to token[m] and counts weight[m].
struct Scatter {
    float* out;
    int stride;
    const int* token;
    const float* weight;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + (int64_t)token[m] * stride + column;
        for (int n = 0; n < NV; n++) store(to + n * LANES, load(to + n * LANES) + sums[n] * weight[m]);
    }
};

// Row m goes to line[m].
struct Placed {
    float* out;
    int64_t stride;
    const int64_t* line;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        for (int n = 0; n < NV; n++) store(out + line[m] * stride + column + n * LANES, sums[n]);
    }
};

template <int MR, int NV, class Out>
inline void block(const float* panel, const float* const* rows, int inputs, const Out& out, int m, int column) {
    const float* x[MR];
    for (int i = 0; i < MR; i++) x[i] = rows[i];
    Vec sums[MR][NV] = {};
    for (int k = 0; k < inputs; k++) {
        Vec w[NV];
        for (int n = 0; n < NV; n++) w[n] = load(panel + k * NV * LANES + n * LANES);
        for (int i = 0; i < MR; i++)
            for (int n = 0; n < NV; n++) sums[i][n] += x[i][k] * w[n];
    }
    for (int i = 0; i < MR; i++) out.template at<NV>(m + i, column, sums[i]);
}

template <int NV, class Out>
inline void blocks(const float* panel, const float* const* rows, int count, int inputs, const Out& out, int column) {
    const int parts = (count + ROW_BLOCK - 1) / ROW_BLOCK;
    for (int part = 0, m = 0; part < parts; part++) {
        const int size = count / parts + (part < count % parts);
        switch (size) {
            case 1: block<1, NV>(panel, rows + m, inputs, out, m, column); break;
            case 2: block<2, NV>(panel, rows + m, inputs, out, m, column); break;
            case 3: block<3, NV>(panel, rows + m, inputs, out, m, column); break;
            case 4: block<4, NV>(panel, rows + m, inputs, out, m, column); break;
            case 5: block<5, NV>(panel, rows + m, inputs, out, m, column); break;
            case 6: block<6, NV>(panel, rows + m, inputs, out, m, column); break;
        }
        m += size;
    }
}

template <class Out>
void product(const Panels& w, const float* const* rows, int count, const Out& out) {
    for (int column = 0; column < w.outputs(); column += PANEL) {
        const float* panel = w.panel(column);
        switch ((w.outputs() - column) / LANES) {
            case 1: blocks<1>(panel, rows, count, w.inputs(), out, column); break;
#if defined(__AVX512F__)
            case 2: blocks<2>(panel, rows, count, w.inputs(), out, column); break;
            case 3: blocks<3>(panel, rows, count, w.inputs(), out, column); break;
#endif
            default: blocks<PANEL_VECTORS>(panel, rows, count, w.inputs(), out, column);
        }
    }
}

}  // namespace raison
