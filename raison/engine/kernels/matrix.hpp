// Weight matrices packed for the product that reads them: fp32 panels, or groups of 32 inputs in 8 or 4 bits.
//
// fp32: a matrix [F outputs, K inputs] is cut into panels of PANEL outputs, each stored [K][outputs].
// 8 and 4 bits: panels of two vectors of outputs; for each group of 32 inputs the heads of both vectors, which hold scales,
// and then both bodies of quads, four consecutive inputs of every output beside each other, as the dot products of bytes
// want them:
//     BYTES     [LANES] d in fp32;             [8 quads][LANES][4] of w + 128                   value d w
//     NIBBLES   [LANES] d, [LANES] m in fp16;  [4][LANES][4], quad j low and quad j + 4 high    value d u + m
//     CENTRED   [LANES] d in fp16;             the same                                         value d (u - 8)
// GGUF's Q8_0, Q4_1 and Q4_0 go over without a change of value; other weights are rounded here.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "arena.hpp"
#include "pool.hpp"
#include "simd.hpp"

namespace raison {

enum Kind : int32_t { F32 = 0, Q4_0 = 2, Q4_1 = 3, Q8_0 = 8 };  // ggml's numbers
enum Format : int32_t { FULL = 0, CENTRED = 3, NIBBLES = 4, BYTES = 8 };

constexpr int PANEL = PANEL_VECTORS * LANES;
constexpr int GROUP = 32, QUADS = GROUP / 4;
constexpr int PAIR = 2;    // vectors of a panel of 8 or 4 bits
constexpr int CENTRE = 8;  // the number of 4 bits that means 0 where weights have no least value of their own

constexpr int head_bytes(Format format) { return format == CENTRED ? LANES * 2 : LANES * 4; }
constexpr int body_bytes(Format format) { return format == BYTES ? LANES * GROUP : LANES * GROUP / 2; }
constexpr int block_bytes(Format format) { return head_bytes(format) + body_bytes(format); }
inline int row_bytes(Kind kind, int inputs) {
    return kind == F32 ? inputs * 4 : inputs / GROUP * (kind == Q4_0 ? 18 : kind == Q4_1 ? 20 : 34);
}

// A matrix as it is handed over: rows one after another.
struct Weight {
    const void* data;
    int32_t kind, outputs, inputs, unused;
};

// One output: where its weights stand; fp32 ones `step` apart. No weights mean zeros.
struct Row {
    const char* first = nullptr;
    Kind kind = F32;
    int step = 1;
};

inline void append(std::vector<Row>& rows, const Weight& w, int first = 0, int count = -1) {
    const Kind kind = (Kind)w.kind;
    for (int f = first; f < (count < 0 ? w.outputs : first + count); f++)
        rows.push_back({(const char*)w.data + (int64_t)f * row_bytes(kind, w.inputs), kind, 1});
}

// Gate and up of a feed-forward, alternating by half a panel, so that both sums of an inner unit meet in one block.
inline std::vector<Row> paired(const std::vector<Row>& gate, const std::vector<Row>& up, Format format) {
    const int inner = (int)gate.size(), half = format == FULL ? PANEL / 2 : LANES;
    std::vector<Row> rows;
    for (int first = 0; first < inner;) {
        const int width = inner - first >= half ? half : padded(inner - first);
        for (const std::vector<Row>* part : {&gate, &up})
            for (int i = first; i < first + width; i++) rows.push_back(i < inner ? (*part)[i] : Row{});
        first += width;
    }
    return rows;
}

// The values of one group of an output, zeros beyond its inputs.
inline void read_group(const Row& row, int group, int inputs, float* out) {
    for (int k = 0; k < GROUP; k++) out[k] = 0;
    if (!row.first) return;
    if (row.kind == F32) {
        const float* x = (const float*)row.first;
        for (int k = 0; k < GROUP && group * GROUP + k < inputs; k++) out[k] = x[(int64_t)(group * GROUP + k) * row.step];
        return;
    }
    const char* block = row.first + (int64_t)group * row_bytes(row.kind, GROUP);
    const float d = half_at(block);
    if (row.kind == Q8_0) {
        for (int k = 0; k < GROUP; k++) out[k] = d * ((const int8_t*)block)[2 + k];
        return;
    }
    const float m = row.kind == Q4_1 ? half_at(block + 2) : -8 * d;
    const uint8_t* q = (const uint8_t*)block + (row.kind == Q4_1 ? 4 : 2);
    for (int k = 0; k < GROUP / 2; k++) out[k] = d * (q[k] & 15) + m, out[k + GROUP / 2] = d * (q[k] >> 4) + m;
}

class Matrix {
  public:
    // The room comes from `arena`, once: a matrix that is packed again has its old size.
    void pack(const std::vector<Row>& rows, int inputs, Format wanted, int threads, Arena& arena) {
        const Format format = wanted == NIBBLES && centred(rows) ? CENTRED : wanted;
        inputs_ = inputs, format_ = format;
        outputs_ = padded((int)rows.size());
        groups_ = (inputs + GROUP - 1) / GROUP;
        const size_t vectors = outputs_ / LANES;
        const size_t size = format == FULL ? (size_t)outputs_ * inputs * 4 : vectors * groups_ * block_bytes(format);
        if (size != size_) data_ = arena.take(size);
        size_ = size;
        const int width = widest();
        Pool::shared().run(threads, (outputs_ + width - 1) / width, [&](int panel) {
            const int start = panel * width;
            if (format == FULL) pack_full(rows, start);
            else for (int at = start; at < start + width && at < outputs_; at += LANES) pack_groups(rows, start, at);
        });
    }

    int inputs() const { return inputs_; }
    int outputs() const { return outputs_; }
    int groups() const { return groups_; }
    Format format() const { return format_; }
    size_t size() const { return size_; }

    // Outputs of the panel that `column` is in, and how many of them come from there on.
    int panel_outputs(int column) const { return std::min(widest(), outputs_ - column / widest() * widest()); }
    int panel_left(int column) const { return panel_outputs(column) - column % widest(); }

    // The output that part `index` of `parts` begins with: a panel's first, unless panels of fp32 are too few for all.
    int first(int index, int parts, bool splits = true) const {
        const bool few = format_ == FULL && outputs_ <= widest() * (parts - 1);
        const int whole = few && splits ? LANES : widest();
        return std::min(outputs_, (outputs_ + whole - 1) / whole * index / parts * whole);
    }

    // The weights of output `column`, with which a panel begins unless it is of fp32.
    const char* at(int column) const {
        const size_t start = column / widest() * widest();
        if (format_ != FULL) return data_ + start / LANES * groups_ * block_bytes(format_);
        return data_ + (start * inputs_ + column - start) * 4;
    }

  private:
    int widest() const { return format_ == FULL ? PANEL : PAIR * LANES; }

    static bool centred(const std::vector<Row>& rows) {
        for (const Row& row : rows)
            if (row.first && row.kind != Q4_0) return false;
        return true;
    }

    void pack_full(const std::vector<Row>& rows, int start) {
        const int width = outputs_ - start < PANEL ? outputs_ - start : PANEL;
        float* panel = (float*)data_ + (size_t)start * inputs_;
        float values[GROUP];
        for (int j = 0; j < width; j++) {
            const Row row = start + j < (int)rows.size() ? rows[start + j] : Row{};
            for (int g = 0; g < groups_; g++) {
                read_group(row, g, inputs_, values);
                for (int k = 0; k < GROUP && g * GROUP + k < inputs_; k++) panel[(g * GROUP + k) * width + j] = values[k];
            }
        }
    }

    // One vector of outputs from `at` on, of the panel that begins at `start`.
    void pack_groups(const std::vector<Row>& rows, int start, int at) {
        const int vectors = outputs_ - start < PAIR * LANES ? 1 : PAIR, v = (at - start) / LANES;
        char* panel = data_ + (size_t)(start / LANES) * groups_ * block_bytes(format_);
        for (int g = 0; g < groups_; g++) {
            char* group = panel + (size_t)g * vectors * block_bytes(format_);
            char* head = group + v * head_bytes(format_);
            char* body = group + vectors * head_bytes(format_) + v * body_bytes(format_);
            for (int j = 0; j < LANES; j++) {
                const Row row = at + j < (int)rows.size() ? rows[at + j] : Row{};
                if (format_ == BYTES) bytes_of(row, g, j, head, body);
                else nibbles_of(row, g, j, head, body);
            }
        }
    }

    // The group's bytes stand in a file in the order in which its quads do here.
    void bytes_of(const Row& row, int g, int j, char* head, char* body) {
        float d = 0;
        int8_t w[GROUP] = {};
        if (row.first && row.kind == Q8_0) {
            const char* from = row.first + (int64_t)g * row_bytes(Q8_0, GROUP);
            d = half_at(from);
            std::memcpy(w, from + 2, GROUP);
        } else if (row.first) {
            float values[GROUP];
            read_group(row, g, inputs_, values);
            Vec most{};
            for (int k = 0; k < GROUP; k += LANES) most = larger(most, larger(load(values + k), -load(values + k)));
            const float top = largest(most), inverse = top > 0 ? 127 / top : 0;
            for (int k = 0; k < GROUP; k += LANES) round_bytes(load(values + k), inverse, w + k);
            d = top / 127;
        }
        std::memcpy(head + j * 4, &d, 4);
        for (int quad = 0; quad < QUADS; quad++) {
            uint32_t four;
            std::memcpy(&four, w + quad * 4, 4);
            four ^= 0x80808080;  // 128 added to each
            std::memcpy(body + quad * LANES * 4 + j * 4, &four, 4);
        }
    }

    void nibbles_of(const Row& row, int g, int j, char* head, char* body) {
        uint8_t pairs[GROUP / 2] = {};
        uint16_t d = 0, m = 0;
        if (row.first && (row.kind == Q4_0 || row.kind == Q4_1)) {
            const char* from = row.first + (int64_t)g * row_bytes(row.kind, GROUP);
            std::memcpy(&d, from, 2);
            if (row.kind == Q4_1) std::memcpy(&m, from + 2, 2);
            else m = to_half(-8 * half_at(from));
            std::memcpy(pairs, from + (row.kind == Q4_1 ? 4 : 2), GROUP / 2);
        } else if (row.first) {
            float values[GROUP];
            read_group(row, g, inputs_, values);
            float low = values[0], high = values[0];
            for (float x : values) low = std::fmin(low, x), high = std::fmax(high, x);
            d = to_half((high - low) / 15), m = to_half(low);
            const float step = half_at((const char*)&d), least = half_at((const char*)&m);
            for (int k = 0; k < GROUP; k++) {
                const float q = step > 0 ? std::nearbyint((values[k] - least) / step) : 0;
                pairs[k % 16] |= (uint8_t)(q < 0 ? 0 : q > 15 ? 15 : q) << (k < 16 ? 0 : 4);
            }
        }
        std::memcpy(head + j * 2, &d, 2);
        if (format_ == NIBBLES) std::memcpy(head + LANES * 2 + j * 2, &m, 2);
        for (int quad = 0; quad < QUADS / 2; quad++) std::memcpy(body + quad * LANES * 4 + j * 4, pairs + quad * 4, 4);
    }

    int inputs_ = 0, outputs_ = 0, groups_ = 0;
    Format format_ = FULL;
    size_t size_ = 0;
    char* data_ = nullptr;
};

}  // namespace raison
