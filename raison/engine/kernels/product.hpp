// Products of many rows with one packed matrix, and what becomes of the results.
//
// A block of rows keeps its sums in registers and reads a panel front to back. Every sum runs over the inputs in order,
// whatever the block: a row's numbers do not depend on the rows beside it. Against weights of 8 or 4 bits a row is
// rounded to 8 bits first, in groups of 32 with a scale each; the products of a group are exact integers.
#pragma once

#include <type_traits>

#include "matrix.hpp"

namespace raison {

// A row's groups of 32 in 8 bits: x = scale q.
struct Rounded {
    const int8_t* q = nullptr;
    const float *scale = nullptr, *total = nullptr;  // by group; total = scale * sum of q
    const int32_t* start = nullptr;                   // by group: -8 times the sum of q
};

struct In {
    const float* x;
    Rounded r;
};

// Where results go. `at(m, column, sums)` receives NV vectors of row m from output `column` on.
struct Store {
    float* out;
    int64_t stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        for (int n = 0; n < NV; n++) store(out + m * stride + column + n * LANES, sums[n]);
    }
};

struct Add {
    float* out;
    int64_t stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + m * stride + column;
        for (int n = 0; n < NV; n++) store(to + n * LANES, load(to + n * LANES) + sums[n]);
    }
};

// silu(gate) * up of `paired` outputs.
struct Gated {
    float* out;
    int64_t stride;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + m * stride + column / 2;
        for (int n = 0; n < NV / 2; n++) store(to + n * LANES, sums[n] * sigmoid(sums[n]) * sums[n + NV / 2]);
    }
};

// Row m belongs to token[m] and counts weight[m].
struct Scatter {
    float* out;
    int64_t stride;
    const int* token;
    const float* weight;
    template <int NV>
    void at(int m, int column, const Vec* sums) const {
        float* to = out + token[m] * stride + column;
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
inline void full_block(const Matrix& w, const In* rows, const Out& out, int m, int column) {
    const float* x[MR];
    for (int i = 0; i < MR; i++) x[i] = rows[i].x;
    const float* panel = (const float*)w.at(column);
    const int64_t width = w.panel_outputs(column);
    Vec sums[MR][NV] = {};
    for (int k = 0; k < w.inputs(); k++, panel += width) {
        Vec weights[NV];
        for (int n = 0; n < NV; n++) weights[n] = load(panel + n * LANES);
        for (int i = 0; i < MR; i++)
            for (int n = 0; n < NV; n++) sums[i][n] += x[i][k] * weights[n];
    }
    for (int i = 0; i < MR; i++) out.template at<NV>(m + i, column, sums[i]);
}

// Asks for the lines of a group of the panel that comes next, so that memory and arithmetic overlap.
template <int SIZE>
inline void ask_ahead(const char* next) {
    for (int at = 0; at < SIZE; at += 64) _mm_prefetch(next + at, _MM_HINT_T1);
}

template <int MR, int NV, class Out>
inline void byte_block(const char* panel, const In* rows, int groups, const Out& out, int m, int column, int64_t ahead) {
    constexpr int SIZE = NV * block_bytes(BYTES), BODIES = NV * head_bytes(BYTES);
    Vec sums[MR][NV] = {};
    for (int g = 0; g < groups; g++, panel += SIZE) {
        if (ahead) ask_ahead<SIZE>(panel + ahead);
        Ints acc[MR][NV];
        for (int i = 0; i < MR; i++)
            for (int n = 0; n < NV; n++) acc[i][n] = all_ints(rows[i].r.start[g] * (BYTE_OFFSET / CENTRE));
        for (int j = 0; j < QUADS; j++) {
            Ints w[NV];
            for (int n = 0; n < NV; n++) w[n] = load_ints(panel + BODIES + n * body_bytes(BYTES) + j * LANES * 4);
            for (int i = 0; i < MR; i++) {
                const Ints x = quad_at(rows[i].r.q + g * GROUP + j * 4);
                for (int n = 0; n < NV; n++) acc[i][n] = dot_bytes(acc[i][n], w[n], x);
            }
        }
        for (int n = 0; n < NV; n++) {
            const Vec d = load((const float*)(panel + n * head_bytes(BYTES)));
            for (int i = 0; i < MR; i++) sums[i][n] = fused(to_floats(acc[i][n]), d * rows[i].r.scale[g], sums[i][n]);
        }
    }
    for (int i = 0; i < MR; i++) out.template at<NV>(m + i, column, sums[i]);
}

template <Format FORMAT, int MR, int NV, class Out>
inline void nibble_block(const char* panel, const In* rows, int groups, const Out& out, int m, int column,
                         int64_t ahead) {
    constexpr int SIZE = NV * block_bytes(FORMAT), BODIES = NV * head_bytes(FORMAT);
    Vec sums[MR][NV] = {};
    for (int g = 0; g < groups; g++, panel += SIZE) {
        if (ahead) ask_ahead<SIZE>(panel + ahead);
        Ints acc[MR][NV];
        for (int i = 0; i < MR; i++)
            for (int n = 0; n < NV; n++) acc[i][n] = all_ints(FORMAT == CENTRED ? rows[i].r.start[g] : 0);
        for (int j = 0; j < QUADS / 2; j++) {
            Ints low[NV], high[NV];
            for (int n = 0; n < NV; n++) {
                const Ints w = load_ints(panel + BODIES + n * body_bytes(FORMAT) + j * LANES * 4);
                low[n] = low_nibbles(w), high[n] = high_nibbles(w);
            }
            for (int i = 0; i < MR; i++) {
                const int8_t* q = rows[i].r.q + g * GROUP + j * 4;
                const Ints first = quad_at(q), second = quad_at(q + GROUP / 2);
                for (int n = 0; n < NV; n++) {
                    acc[i][n] = dot_nibbles(acc[i][n], low[n], first);
                    acc[i][n] = dot_nibbles(acc[i][n], high[n], second);
                }
            }
        }
        for (int n = 0; n < NV; n++) {
            const char* head = panel + n * head_bytes(FORMAT);
            const Vec d = load_halves(head);
            for (int i = 0; i < MR; i++) sums[i][n] = fused(to_floats(acc[i][n]), d * rows[i].r.scale[g], sums[i][n]);
            if constexpr (FORMAT == NIBBLES) {
                const Vec least = load_halves(head + LANES * 2);
                for (int i = 0; i < MR; i++) sums[i][n] = fused(least, all(rows[i].r.total[g]), sums[i][n]);
            }
        }
    }
    for (int i = 0; i < MR; i++) out.template at<NV>(m + i, column, sums[i]);
}

template <int MR, int NV, class Out>
inline void one_block(const Matrix& w, const In* rows, const Out& out, int m, int column, int64_t ahead) {
    switch (w.format()) {
        case FULL: full_block<MR, NV>(w, rows, out, m, column); break;
        case BYTES:
            if constexpr (NV <= PAIR) byte_block<MR, NV>(w.at(column), rows, w.groups(), out, m, column, ahead);
            break;
        case NIBBLES:
            if constexpr (NV <= PAIR)
                nibble_block<NIBBLES, MR, NV>(w.at(column), rows, w.groups(), out, m, column, ahead);
            break;
        case CENTRED:
            if constexpr (NV <= PAIR)
                nibble_block<CENTRED, MR, NV>(w.at(column), rows, w.groups(), out, m, column, ahead);
    }
}

template <int NV, class Out>
inline void blocks(const Matrix& w, const In* rows, int count, const Out& out, int column, int64_t next) {
    const int parts = (count + ROW_BLOCK - 1) / ROW_BLOCK;
    for (int part = 0, m = 0; part < parts; part++) {
        const int size = count / parts + (part < count % parts);
        const int64_t ahead = part == parts - 1 ? next : 0;
        switch (size) {
            case 1: one_block<1, NV>(w, rows + m, out, m, column, ahead); break;
            case 2: one_block<2, NV>(w, rows + m, out, m, column, ahead); break;
            case 3: one_block<3, NV>(w, rows + m, out, m, column, ahead); break;
            case 4: one_block<4, NV>(w, rows + m, out, m, column, ahead); break;
            case 5: one_block<5, NV>(w, rows + m, out, m, column, ahead); break;
            case 6: one_block<6, NV>(w, rows + m, out, m, column, ahead); break;
        }
        m += size;
    }
}

// Part `index` of `parts` of the outputs; all parts together are the product. Weights at `then` are read next.
template <class Out>
void product(const Matrix& w, const In* rows, int count, const Out& out, int index = 0, int parts = 1,
             const char* then = nullptr) {
    if (count == 0) return;
    constexpr bool splits = !std::is_same_v<Out, Gated>;  // gate and up stay together
    const int stop = w.first(index + 1, parts, splits);
    for (int column = w.first(index, parts, splits), width; column < stop; column += width) {
        width = std::min(w.panel_left(column), stop - column);
        const char* after = column + width < stop ? w.at(column + width) : then;
        const int64_t next = after ? after - w.at(column) : 0;
        switch (width / LANES) {
            case 1: blocks<1>(w, rows, count, out, column, next); break;
            case 2: blocks<2>(w, rows, count, out, column, next); break;
#if defined(__AVX512F__)
            case 3: blocks<3>(w, rows, count, out, column, next); break;
            case 4: blocks<4>(w, rows, count, out, column, next); break;
#endif
        }
    }
}

}  // namespace raison
