// The shape and the packed weights of a decoder: latent (MLA) or grouped-query attention, dense or routed feed-forward.
//
// Weights come in the order of weights.py's `weights_of`. Norms, biases and the embedding are used where they are. An MTP
// module is a decoder of one layer whose rows begin with `Join` instead of an embedding.
#pragma once

#include "product.hpp"

namespace raison {

struct Shape {
    int32_t vocabulary, hidden, layers, heads, q_rank, kv_rank, nope, rope, value, inner;
    int32_t experts, chosen, expert_inner, shared_inner, groups, kept_groups, first_dense, normalise;
    int32_t key_heads;  // of grouped-query attention; 0 = latent
    int32_t head, qkv_bias, out_bias, qk_norm, neighbours;
    int32_t group_best;  // experts whose scores stand for their group
    int32_t sigmoid;     // scores of the router: sigmoid with a bias, or softmax
    int32_t format, head_format;
    int32_t joins;  // whether it is an MTP module
    float routed_scale, epsilon, softmax_scale;
    const float *cosines, *sines;  // [positions, rotated pairs]
};

struct Layer {
    const float *input_norm, *q_norm, *kv_norm, *post_norm, *router_bias = nullptr;
    const float *q_bias, *k_bias, *v_bias, *out_bias;
    Matrix in;                            // [q_a ; kv_a] or kv_a alone; or [q ; k ; v]
    Matrix queries;                       // q_b, or q
    std::vector<Matrix> key_up, value_up;  // per head: W_UK [P -> C], W_UV [C -> V]
    Matrix out, router;
    Matrix gate_up, down;                 // dense, or the shared expert
    std::vector<Matrix> expert_gate_up, expert_down;
};

// How an MTP module's rows begin: norms of the next token's embedding and of the state, and the product of both.
struct Join {
    const float *embedding_norm, *state_norm;
    Matrix matrix;
};

class Model {
  public:
    explicit Model(const Shape& shape) : s(shape), layers(shape.layers) {}

    Shape s;
    Join join;
    std::vector<Layer> layers;
    Weight embedding{};
    const float* norm = nullptr;
    Matrix head;

    bool latent() const { return s.key_heads == 0; }
    int width() const { return latent() ? s.kv_rank + s.rope : 2 * s.key_heads * s.head; }
    int key_width() const { return s.nope + s.rope; }
    int queries() const { return latent() ? s.heads * key_width() : s.heads * s.head; }
    int values() const { return latent() ? s.heads * s.value : s.heads * s.head; }
    bool rounds() const { return s.format != FULL; }
    bool routes(int layer) const { return s.experts > 0 && layer >= s.first_dense; }
    size_t bytes() const { return bytes_; }

    void pack(const Weight* weights, int threads) {
        next_ = weights, threads_ = threads, bytes_ = 0;
        embedding = *next_++;
        if (s.joins) {
            join.embedding_norm = vector(), join.state_norm = vector();
            fill(join.matrix, rows(), 2 * s.hidden, format());
        }
        for (int i = 0; i < s.layers; i++) block(i);
        norm = vector();
        fill(head, rows(), s.hidden, (Format)s.head_format);
    }

    void embed(int64_t token, float* out) const {
        const Row row{(const char*)embedding.data + token * row_bytes((Kind)embedding.kind, s.hidden),
                      (Kind)embedding.kind, 1};
        if (row.kind == F32) std::memcpy(out, row.first, s.hidden * 4);
        else for (int g = 0; g * GROUP < s.hidden; g++) read_group(row, g, s.hidden, out + g * GROUP);
    }

  private:
    void block(int i) {
        Layer& l = layers[i];
        l.input_norm = vector();
        if (latent()) latent_attention(l);
        else grouped_attention(l);
        l.post_norm = vector();
        if (routes(i)) mixture(l);
        else dense(l);
    }

    const float* vector() { return (const float*)(next_++)->data; }

    std::vector<Row> rows() {
        std::vector<Row> found;
        append(found, *next_++);
        return found;
    }

    void fill(Matrix& to, const std::vector<Row>& from, int inputs, Format format) {
        to.pack(from, inputs, format, threads_, arena_);
        bytes_ += to.size();
    }

    Format format() const { return (Format)s.format; }
    Format parts_format() const { return rounds() ? BYTES : FULL; }  // of matrices cut by heads, which are small

    void latent_attention(Layer& l) {
        std::vector<Row> first, query = rows();
        if (s.q_rank) {
            first = query;
            first.resize(padded(s.q_rank));
            l.q_norm = vector();
            fill(l.queries, rows(), s.q_rank, format());
        } else {
            fill(l.queries, query, s.hidden, format());
        }
        append(first, *next_++);
        fill(l.in, first, s.hidden, format());
        l.kv_norm = vector();
        up_projections(l, vector());
        fill(l.out, rows(), s.heads * s.value, format());
    }

    // kv_b's rows stand per head as [P nope ; V value]; the first are used transposed.
    void up_projections(Layer& l, const float* kv_b) {
        l.key_up.resize(s.heads);
        l.value_up.resize(s.heads);
        for (int h = 0; h < s.heads; h++) {
            const float* of_head = kv_b + (int64_t)h * (s.nope + s.value) * s.kv_rank;
            std::vector<Row> columns, values;
            for (int c = 0; c < s.kv_rank; c++) columns.push_back({(const char*)(of_head + c), F32, s.kv_rank});
            fill(l.key_up[h], columns, s.nope, parts_format());
            append(values, {of_head + (int64_t)s.nope * s.kv_rank, F32, s.value, s.kv_rank, 0});
            fill(l.value_up[h], values, s.kv_rank, parts_format());
        }
    }

    void grouped_attention(Layer& l) {
        std::vector<Row> all = rows();
        for (int part = 0; part < 2; part++) append(all, *next_++);
        fill(l.in, all, s.hidden, format());
        if (s.qkv_bias) l.q_bias = vector(), l.k_bias = vector(), l.v_bias = vector();
        if (s.qk_norm) l.q_norm = vector(), l.kv_norm = vector();
        fill(l.out, rows(), s.heads * s.head, format());
        if (s.out_bias) l.out_bias = vector();
    }

    void dense(Layer& l) {
        const int inner = next_->outputs;
        const std::vector<Row> gate = rows(), up = rows();
        fill(l.gate_up, paired(gate, up, format()), s.hidden, format());
        fill(l.down, rows(), inner, format());
    }

    void mixture(Layer& l) {
        fill(l.router, rows(), s.hidden, FULL);
        if (s.sigmoid) l.router_bias = vector();
        l.expert_gate_up.resize(s.experts);
        l.expert_down.resize(s.experts);
        for (int x = 0; x < s.experts; x++) {
            const std::vector<Row> gate = rows(), up = rows();
            fill(l.expert_gate_up[x], paired(gate, up, format()), s.hidden, format());
            fill(l.expert_down[x], rows(), s.expert_inner, format());
        }
        if (s.shared_inner) dense(l);
    }

    Arena arena_;
    const Weight* next_ = nullptr;
    int threads_ = 1;
    size_t bytes_ = 0;
};

}  // namespace raison
