// One engine step of a DeepSeek-V3 decoder in fp32: tokens in, logits out, without a framework between the layers.
//
// The batch is cut into units of whole sequences; a thread takes a unit through the whole network, tile by tile, so that
// threads meet once a step and a tile's activations stay in the nearest cache. Attention is MLA's absorbed form over the
// paged latent cache. Every number of a row depends on its own sequence alone, bit for bit (product.hpp).
//
// Mirrors engine/runner.py, which is the reference that tests hold it against; weights come in the order of native.py.
// Not covered: bf16 and quantised weights, MTP modules, one sequence on several threads.
#include <cmath>
#include <limits>
#include <numeric>

#include "pool.hpp"
#include "product.hpp"
#include "sample.hpp"

namespace raison {

constexpr int TILE = 48;      // rows that go through the network together
constexpr int HEADS = 4;      // heads that read a key together
constexpr int SPAN = 4;       // vectors of a latent that are summed together

struct Shape {
    int32_t vocabulary, hidden, layers, heads, q_rank, kv_rank, nope, rope, value, inner;
    int32_t experts, chosen, expert_inner, shared_inner, groups, kept_groups, first_dense, normalise;
    float routed_scale, epsilon, softmax_scale;
    const float *cosines, *sines;  // [positions, rope / 2]
};

struct Step {
    int32_t rows, segments, threads, page_size;
    const int64_t *ids, *positions;      // [rows]
    const int64_t* starts;               // [segments + 1]: first row of each sequence
    const int64_t* slots;                // [segments]: its line in the table of pages
    const int64_t* blocks;               // [slots, blocks_stride]
    int64_t blocks_stride;
    float* cache;                        // [layers, pages, page_size, width]
    int64_t layer_stride;
    const int64_t* outputs;              // [rows]: where the row's logits go, or -1
    float* logits;                       // [outputs, logits_stride]
    int64_t logits_stride;
};

struct Layer {
    const float *input_norm, *q_norm, *kv_norm, *post_norm, *router_bias;
    Panels down_to_latents;              // [q_a ; kv_a], or kv_a alone
    Panels queries;                      // q_b, or q
    std::vector<Panels> key_up, value_up;  // per head: W_UK [P -> C], W_UV [C -> V]
    Panels out, router;
    Panels gate_up, down;                // dense, or the shared expert
    std::vector<Panels> expert_gate_up, expert_down;
};

class Model {
  public:
    explicit Model(const Shape& shape) : s(shape), layers(shape.layers) {}

    Shape s;
    std::vector<Layer> layers;
    const float *embedding = nullptr, *norm = nullptr;
    Panels head;

    int width() const { return s.kv_rank + s.rope; }
    int key_width() const { return s.nope + s.rope; }
    bool routes(int layer) const { return s.experts > 0 && layer >= s.first_dense; }

    // `weights` is consumed in the order of native.py's `weights_of`.
    void pack(const float* const* weights) {
        embedding = *weights++;
        for (int i = 0; i < s.layers; i++) {
            weights = attention(layers[i], weights);
            weights = routes(i) ? mixture(layers[i], weights) : dense(layers[i], weights, s.inner);
        }
        norm = *weights++;
        pack(head, *weights++, s.vocabulary, s.hidden);
    }

  private:
    static void pack(Panels& panels, const float* matrix, int outputs, int inputs) {
        std::vector<Row> rows;
        append(rows, matrix, outputs, inputs);
        panels.pack(rows, inputs);
    }

    const float* const* attention(Layer& l, const float* const* w) {
        l.input_norm = *w++;
        std::vector<Row> first;
        const float* query = *w++;
        if (s.q_rank) {
            append(first, query, s.q_rank, s.hidden);
            first.resize(padded(s.q_rank));
            l.q_norm = *w++;
            pack(l.queries, *w++, s.heads * key_width(), s.q_rank);
        } else {
            pack(l.queries, query, s.heads * key_width(), s.hidden);
        }
        append(first, *w++, width(), s.hidden);
        l.down_to_latents.pack(first, s.hidden);
        l.kv_norm = *w++;
        up_projections(l, *w++);
        pack(l.out, *w++, s.hidden, s.heads * s.value);
        l.post_norm = *w++;
        return w;
    }

    // kv_b's rows stand per head as [P nope ; V value]; the first are used transposed.
    void up_projections(Layer& l, const float* kv_b) {
        l.key_up.resize(s.heads);
        l.value_up.resize(s.heads);
        for (int h = 0; h < s.heads; h++) {
            const float* of_head = kv_b + (int64_t)h * (s.nope + s.value) * s.kv_rank;
            std::vector<Row> columns;
            for (int c = 0; c < s.kv_rank; c++) columns.push_back({of_head + c, s.kv_rank});
            l.key_up[h].pack(columns, s.nope);
            pack(l.value_up[h], of_head + (int64_t)s.nope * s.kv_rank, s.value, s.kv_rank);
        }
    }

    const float* const* dense(Layer& l, const float* const* w, int inner) {
        l.gate_up.pack(paired(w[0], w[1], inner, s.hidden), s.hidden);
        pack(l.down, w[2], s.hidden, inner);
        return w + 3;
    }

    const float* const* mixture(Layer& l, const float* const* w) {
        pack(l.router, w[0], s.experts, s.hidden);
        l.router_bias = w[1];
        l.expert_gate_up.resize(s.experts);
        l.expert_down.resize(s.experts);
        for (int x = 0; x < s.experts; x++) {
            const float* gate = w[2] + (int64_t)x * 2 * s.expert_inner * s.hidden;
            const float* up = gate + (int64_t)s.expert_inner * s.hidden;
            l.expert_gate_up[x].pack(paired(gate, up, s.expert_inner, s.hidden), s.hidden);
            pack(l.expert_down[x], w[3] + (int64_t)x * s.hidden * s.expert_inner, s.hidden, s.expert_inner);
        }
        return s.shared_inner ? dense(l, w + 4, s.shared_inner) : w + 4;
    }
};

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

// Rows of floats with a stride of whole vectors; memory is kept between steps.
class Rows {
  public:
    void fit(int rows, int columns) {
        stride_ = padded(columns);
        if (data_.size() < (size_t)rows * stride_) data_.resize((size_t)rows * stride_);
    }
    float* row(int i) { return data_.data() + (int64_t)i * stride_; }
    int stride() const { return stride_; }
    const float* const* pointers(int count, int offset = 0) {
        at_.resize(count);
        for (int i = 0; i < count; i++) at_[i] = row(i) + offset;
        return at_.data();
    }

  private:
    std::vector<float> data_;
    std::vector<const float*> at_;
    int stride_ = 0;
};

// One thread's way through the network with a tile of at most TILE rows.
class Worker {
  public:
    void run(const Model& model, const Step& step, int first_segment, int last_segment) {
        m_ = &model;
        step_ = &step;
        prepare();
        const int stop = (int)step.starts[last_segment];
        for (int segment = first_segment, start = (int)step.starts[first_segment]; start < stop; start += count_) {
            first_ = start;
            count_ = stop - start < TILE ? stop - start : TILE;
            for (int i = 0; i < count_; i++) {
                while (start + i >= step.starts[segment + 1]) segment++;
                pages_[i] = step.blocks + step.slots[segment] * step.blocks_stride;
            }
            tile();
        }
    }

  private:
    void prepare() {
        const Shape& s = m_->s;
        const int copies = TILE * (s.chosen > 0 ? s.chosen : 1);
        const int inner = s.inner > s.shared_inner ? s.inner : s.shared_inner;
        x_.fit(TILE, s.hidden);
        normed_.fit(TILE, s.hidden);
        latents_.fit(TILE, padded(s.q_rank) + m_->width());
        q_normed_.fit(TILE, s.q_rank);
        queries_.fit(TILE, s.heads * m_->key_width());
        folded_.fit(TILE * s.heads, m_->width() + LANES);
        seen_.fit(TILE * s.heads, s.kv_rank);
        values_.fit(TILE, s.heads * padded(s.value));
        inner_.fit(TILE, inner + PANEL);
        routed_.fit(copies, s.expert_inner + PANEL);
        affinity_.fit(TILE, s.experts);
    }

    void tile() {
        const Model& m = *m_;
        const Shape& s = m.s;
        for (int i = 0; i < count_; i++)
            std::memcpy(x_.row(i), m.embedding + step_->ids[first_ + i] * s.hidden, s.hidden * 4);
        for (int l = 0; l < s.layers; l++) {
            attention(m.layers[l], step_->cache + l * step_->layer_stride);
            for (int i = 0; i < count_; i++)
                normalise(x_.row(i), m.layers[l].post_norm, s.hidden, s.epsilon, normed_.row(i));
            if (m.routes(l)) mixture(m.layers[l]);
            if (!m.routes(l) || s.shared_inner) feed_forward(m.layers[l]);
        }
        logits();
    }

    void attention(const Layer& l, float* cache) {
        const Shape& s = m_->s;
        for (int i = 0; i < count_; i++) normalise(x_.row(i), l.input_norm, s.hidden, s.epsilon, normed_.row(i));
        product(l.down_to_latents, normed_.pointers(count_), count_, Store{latents_.row(0), latents_.stride()});
        Rows& query_inputs = s.q_rank ? q_normed_ : normed_;
        for (int i = 0; i < count_; i++) {
            if (s.q_rank) normalise(latents_.row(i), l.q_norm, s.q_rank, s.epsilon, q_normed_.row(i));
            write(l, cache, i);
        }
        product(l.queries, query_inputs.pointers(count_), count_, Store{queries_.row(0), queries_.stride()});
        fold(l);
        for (int i = 0; i < count_; i++) attend(cache, i);
        expand(l);
        product(l.out, values_.pointers(count_), count_, Add{x_.row(0), x_.stride()});
    }

    float* cached(float* cache, int i, int64_t place) const {
        const int64_t page = pages_[i][place / step_->page_size];
        return cache + (page * step_->page_size + place % step_->page_size) * m_->width();
    }

    void write(const Layer& l, float* cache, int i) {
        const Shape& s = m_->s;
        const int64_t place = step_->positions[first_ + i];
        const float* latent = latents_.row(i) + padded(s.q_rank);
        float* to = cached(cache, i, place);
        normalise(latent, l.kv_norm, s.kv_rank, s.epsilon, to);
        rotate(latent + s.kv_rank, place, 1.0f, to + s.kv_rank);
    }

    void rotate(const float* x, int64_t place, float scale, float* out) const {
        const int pairs = m_->s.rope / 2;
        const float *c = m_->s.cosines + place * pairs, *n = m_->s.sines + place * pairs;
        for (int p = 0; p < pairs; p++) {
            const float a = x[2 * p] * scale, b = x[2 * p + 1] * scale;
            out[2 * p] = a * c[p] - b * n[p];
            out[2 * p + 1] = a * n[p] + b * c[p];
        }
    }

    // Queries into the space of the cached latents: [W_UK^T q ; rotated q], scaled for the softmax. Rows are [row, head].
    void fold(const Layer& l) {
        const Shape& s = m_->s;
        const int stride = folded_.stride();
        for (int h = 0; h < s.heads; h++)
            product(l.key_up[h], queries_.pointers(count_, h * m_->key_width()), count_,
                    Store{folded_.row(h), s.heads * stride});
        for (int i = 0; i < count_; i++)
            for (int h = 0; h < s.heads; h++) {
                float* to = folded_.row(i * s.heads + h);
                for (int c = 0; c < s.kv_rank; c++) to[c] *= s.softmax_scale;
                rotate(queries_.row(i) + h * m_->key_width() + s.nope, step_->positions[first_ + i], s.softmax_scale,
                       to + s.kv_rank);
            }
    }

    void attend(float* cache, int i) {
        const int heads = m_->s.heads;
        const int length = (int)step_->positions[first_ + i] + 1;
        scores_.fit(heads, length);
        keys_.resize(length);
        for (int t = 0; t < length; t += step_->page_size) {
            const float* page = cached(cache, i, t);
            const int end = length - t < step_->page_size ? length - t : step_->page_size;
            for (int j = 0; j < end; j++) keys_[t + j] = page + (int64_t)j * m_->width();
        }
        for (int h = 0; h < heads; h += HEADS) {
            switch (heads - h) {
                case 1: attend_heads<1>(i, h, length); break;
                case 2: attend_heads<2>(i, h, length); break;
                case 3: attend_heads<3>(i, h, length); break;
                default: attend_heads<HEADS>(i, h, length);
            }
        }
    }

    template <int N>
    void attend_heads(int i, int first_head, int length) {
        const int width = m_->width(), whole = width / LANES * LANES, heads = m_->s.heads;
        const float* q[N];
        float* scores[N];
        for (int h = 0; h < N; h++) {
            q[h] = folded_.row(i * heads + first_head + h);
            scores[h] = scores_.row(first_head + h);
        }
        for (int t = 0; t < length; t++) {
            const float* key = keys_[t];
            Vec acc[N] = {};
            for (int w = 0; w < whole; w += LANES)
                for (int h = 0; h < N; h++) acc[h] += load(key + w) * load(q[h] + w);
            for (int h = 0; h < N; h++) {
                float score = sum(acc[h]);
                for (int w = whole; w < width; w++) score += key[w] * q[h][w];
                scores[h][t] = score;
            }
        }
        for (int h = 0; h < N; h++) softmax(scores[h], length);
        gather<N>(i, first_head, length, scores);
    }

    static void softmax(float* x, int n) {
        const int end = padded(n);
        for (int t = n; t < end; t++) x[t] = -std::numeric_limits<float>::infinity();
        Vec most = load(x), total{};
        for (int t = LANES; t < end; t += LANES) most = larger(most, load(x + t));
        const float top = largest(most);
        for (int t = 0; t < end; t += LANES) {
            const Vec e = exponential(load(x + t) - top);
            total += e;
            store(x + t, e);
        }
        const float inverse = 1.0f / sum(total);
        for (int t = 0; t < end; t += LANES) store(x + t, load(x + t) * inverse);
    }

    // The weighted sum of the latents, without their rotary part.
    template <int N>
    void gather(int i, int first_head, int length, float* const* weights) {
        const int rank = m_->s.kv_rank, heads = m_->s.heads;
        float* to[N];
        for (int h = 0; h < N; h++) to[h] = seen_.row(i * heads + first_head + h);
        int c = 0;
        for (; c + SPAN * LANES <= rank; c += SPAN * LANES) gather_span<N, SPAN>(length, weights, c, to);
        for (; c + LANES <= rank; c += LANES) gather_span<N, 1>(length, weights, c, to);
        for (; c < rank; c++)
            for (int h = 0; h < N; h++) {
                float total = 0;
                for (int t = 0; t < length; t++) total += weights[h][t] * keys_[t][c];
                to[h][c] = total;
            }
    }

    template <int N, int V>
    void gather_span(int length, float* const* weights, int c, float* const* to) {
        Vec acc[N][V] = {};
        for (int t = 0; t < length; t++) {
            Vec key[V];
            for (int v = 0; v < V; v++) key[v] = load(keys_[t] + c + v * LANES);
            for (int h = 0; h < N; h++)
                for (int v = 0; v < V; v++) acc[h][v] += weights[h][t] * key[v];
        }
        for (int h = 0; h < N; h++)
            for (int v = 0; v < V; v++) store(to[h] + c + v * LANES, acc[h][v]);
    }

    // Head after head: what spills over a head's end is overwritten by the next.
    void expand(const Layer& l) {
        const Shape& s = m_->s;
        const int stride = seen_.stride();
        at_.resize(count_);
        for (int h = 0; h < s.heads; h++) {
            for (int i = 0; i < count_; i++) at_[i] = seen_.row(0) + (int64_t)(i * s.heads + h) * stride;
            product(l.value_up[h], at_.data(), count_, Store{values_.row(0) + h * s.value, values_.stride()});
        }
    }

    void feed_forward(const Layer& l) {
        product(l.gate_up, normed_.pointers(count_), count_, Gated{inner_.row(0), inner_.stride()});
        product(l.down, inner_.pointers(count_), count_, Add{x_.row(0), x_.stride()});
    }

    void mixture(const Layer& l) {
        const Shape& s = m_->s;
        product(l.router, normed_.pointers(count_), count_, Store{affinity_.row(0), affinity_.stride()});
        of_expert_.assign(s.experts, {});
        for (int i = 0; i < count_; i++) route(l, i);
        for (int x = 0; x < s.experts; x++) {
            const std::vector<Copy>& copies = of_expert_[x];
            const int n = (int)copies.size();
            if (n == 0) continue;
            at_.resize(n), token_.resize(n), weight_.resize(n);
            for (int j = 0; j < n; j++) {
                at_[j] = normed_.row(copies[j].row);
                token_[j] = copies[j].row;
                weight_[j] = copies[j].weight;
            }
            product(l.expert_gate_up[x], at_.data(), n, Gated{routed_.row(0), routed_.stride()});
            product(l.expert_down[x], routed_.pointers(n), n,
                    Scatter{x_.row(0), x_.stride(), token_.data(), weight_.data()});
        }
    }

    // Sigmoid scores; the biased ones choose groups and experts, the unbiased ones weigh (eq. 12-16).
    void route(const Layer& l, int i) {
        const Shape& s = m_->s;
        float* scores = affinity_.row(i);
        for (int x = 0; x < affinity_.stride(); x += LANES) store(scores + x, sigmoid(load(scores + x)));
        choice_.resize(s.experts);
        for (int x = 0; x < s.experts; x++) choice_[x] = scores[x] + l.router_bias[x];
        if (s.kept_groups < s.groups) keep_groups();
        float total = 0;
        chosen_.resize(s.chosen);
        for (int k = 0; k < s.chosen; k++) {
            chosen_[k] = best(choice_);
            choice_[chosen_[k]] = -std::numeric_limits<float>::infinity();
            total += scores[chosen_[k]];
        }
        const float scale = s.routed_scale / (s.normalise ? total + 1e-20f : 1.0f);
        for (int x : chosen_) of_expert_[x].push_back({i, scores[x] * scale});
    }

    // -inf outside the groups whose best two experts score highest together.
    void keep_groups() {
        const Shape& s = m_->s;
        const int size = s.experts / s.groups;
        group_.resize(s.groups);
        for (int g = 0; g < s.groups; g++) {
            float first = -std::numeric_limits<float>::infinity(), second = first;
            for (int x = g * size; x < (g + 1) * size; x++) {
                if (choice_[x] > first) second = first, first = choice_[x];
                else if (choice_[x] > second) second = choice_[x];
            }
            group_[g] = first + second;
        }
        kept_.assign(s.groups, false);
        for (int k = 0; k < s.kept_groups; k++) {
            const int g = best(group_);
            kept_[g] = true;
            group_[g] = -std::numeric_limits<float>::infinity();
        }
        for (int x = 0; x < s.experts; x++)
            if (!kept_[x / size]) choice_[x] = -std::numeric_limits<float>::infinity();
    }

    static int best(const std::vector<float>& values) {
        int at = 0;
        for (int i = 1; i < (int)values.size(); i++)
            if (values[i] > values[at]) at = i;
        return at;
    }

    void logits() {
        const Shape& s = m_->s;
        at_.clear(), line_.clear();
        for (int i = 0; i < count_; i++) {
            if (step_->outputs[first_ + i] < 0) continue;
            normalise(x_.row(i), m_->norm, s.hidden, s.epsilon, normed_.row(i));
            at_.push_back(normed_.row(i));
            line_.push_back(step_->outputs[first_ + i]);
        }
        product(m_->head, at_.data(), (int)at_.size(),
                Placed{step_->logits, step_->logits_stride, line_.data()});
    }

    struct Copy {
        int row;
        float weight;
    };

    const Model* m_ = nullptr;
    const Step* step_ = nullptr;
    int first_ = 0, count_ = 0;
    const int64_t* pages_[TILE] = {};
    Rows x_, normed_, latents_, q_normed_, queries_, folded_, seen_, values_, inner_, routed_, affinity_, scores_;
    std::vector<const float*> keys_, at_;
    std::vector<std::vector<Copy>> of_expert_;
    std::vector<float> choice_, group_, weight_;
    std::vector<int> chosen_, token_;
    std::vector<int64_t> line_;
    std::vector<char> kept_;
};

// Consecutive segments of about the same number of rows: as many units as keep all threads busy alike.
inline std::vector<int> units_of(const Step& step) {
    const int64_t rows = step.rows, threads = step.threads;
    const int64_t count = threads * ((rows + threads * TILE - 1) / (threads * TILE));
    std::vector<int> bounds{0};
    for (int segment = 1; segment <= step.segments; segment++)
        if (segment == step.segments || step.starts[segment] * count >= rows * (int64_t)bounds.size())
            bounds.push_back(segment);
    return bounds;
}

void run(const Model& model, const Step& step) {
    const std::vector<int> bounds = units_of(step);
    Pool::shared().run(step.threads, (int)bounds.size() - 1, [&](int unit) {
        static thread_local Worker worker;
        worker.run(model, step, bounds[unit], bounds[unit + 1]);
    });
}

}  // namespace raison

extern "C" {

void* raison_model(const raison::Shape* shape) { return new raison::Model(*shape); }
void raison_pack(void* model, const float* const* weights) { static_cast<raison::Model*>(model)->pack(weights); }
void raison_free(void* model) { delete static_cast<raison::Model*>(model); }
void raison_step(const void* model, const raison::Step* step) {
    raison::run(*static_cast<const raison::Model*>(model), *step);
}
int raison_draw(const raison::Draw* draw) { return raison::draw(*draw); }

}
