// A team of threads on its way through the network with a tile of rows.
//
// Small models: every thread is a team of its own with other sequences, and meets nobody. Large ones: all threads are one
// team that shares out the outputs of every product, so that each weight is read once a step; `meet` is where they wait
// for each other. Attention is over the paged cache, MLA's in its absorbed form.
#pragma once

#include <limits>
#include <numeric>

#include "network.hpp"
#include "rows.hpp"

namespace raison {

constexpr int TILE = 64;      // rows that go through the network together
constexpr int HEADS = 4;      // heads that read a key together
constexpr int SPAN = 4;       // vectors of a value that are summed together
constexpr int CHUNK_KEYS = 64;  // keys that all rows of a group read before the next ones: they stay in the nearest cache
constexpr int GROUP_ROWS = 16;  // rows of a group at most
constexpr int LEAST_SHARED = 32;  // tokens that make a group worth its while

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
    const float* before;                 // [rows, hidden]: normed states that an MTP module goes on from
    float* states;                       // [rows, hidden]: where normed states go, or null
};

// What one thread of a team has for itself.
struct Member {
    int index = 0;
    Rows scores, head_rows;
    std::vector<const float*> keys;
    std::vector<In> in;
    std::vector<int> token;
    std::vector<float> weight, choice, group;
    std::vector<int64_t> line;
};

// Rows [first, first + rows) of the tile that see the same first `shared` tokens: samples of one prompt, or a prompt's own.
struct RowGroup {
    int first, rows, shared;
};

// What a head reads of every cached token: where its key begins and how wide it is, and so its value.
struct Reading {
    int key, key_width, value, value_width;
};

// Where the first head's query and result of the tile's first row stand, and how far rows and heads are apart.
struct Heads {
    const float* q;
    int64_t q_row, q_head;
    float* out;
    int64_t out_row, out_head;
};

class Walk {
  public:
    // The whole of segments [first, last), by every member at once.
    void run(const Model& model, const Step& step, int first_segment, int last_segment, int size, Member& me) {
        if (me.index == 0) prepare(model, step, size);
        meet(size);
        const int stop = (int)step.starts[last_segment];
        for (int segment = first_segment, start = (int)step.starts[first_segment]; start < stop; start += TILE) {
            if (me.index == 0) {
                first_ = start;
                count_ = stop - start < TILE ? stop - start : TILE;
                for (int i = 0; i < count_; i++) {
                    while (start + i >= step.starts[segment + 1]) segment++;
                    pages_[i] = step.blocks + step.slots[segment] * step.blocks_stride;
                }
                find_groups();
            }
            meet(size);
            tile(me);
        }
    }

  private:
    void meet(int size) {
        if (size == 1) return;
        const uint32_t turn = turn_.load(std::memory_order_relaxed);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
            arrived_.store(0, std::memory_order_relaxed);
            turn_.store(turn + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; spins++)
            spins < 1 << 14 ? _mm_pause() : std::this_thread::yield();
    }

    void prepare(const Model& model, const Step& step, int size) {
        m_ = &model, step_ = &step, size_ = size;
        const Shape& s = model.s;
        const bool r = model.rounds();
        const int copies = TILE * (s.chosen > 0 ? s.chosen : 1), inner = std::max(s.inner, s.shared_inner);
        x_.fit(TILE, s.hidden);
        normed_.fit(TILE, s.hidden, r || s.head_format != FULL);
        if (s.joins) joined_.fit(TILE, 2 * s.hidden, r);
        first_out_.fit(TILE, model.latent() ? padded(s.q_rank) + model.width() : model.queries() + model.width());
        q_normed_.fit(TILE, s.q_rank, r);
        queries_.fit(TILE, model.queries());
        folded_.fit(TILE * s.heads, s.kv_rank + s.rope + LANES);
        seen_.fit(TILE * s.heads, s.kv_rank, r);
        values_.fit(TILE, model.values(), r);
        inner_.fit(TILE, inner, r);
        routed_.fit(copies, s.expert_inner, r);
        affinity_.fit(TILE, s.experts);
    }

    template <class Work>
    void each_row(const Member& me, const Work& work) {
        for (int i = me.index; i < count_; i += size_) work(i);
    }

    In* inputs(Member& me, Rows& rows, int count) {
        me.in.resize(count);
        for (int i = 0; i < count; i++) me.in[i] = rows.in(i);
        return me.in.data();
    }

    template <class Out>
    void project(Member& me, const Matrix& w, Rows& rows, const Out& out) {
        product(w, inputs(me, rows, count_), count_, out, me.index, size_);
    }

    void norm_rows(Member& me, const float* weight) {
        each_row(me, [&](int i) {
            normalise(x_.row(i), weight, m_->s.hidden, m_->s.epsilon, normed_.row(i));
            if (m_->rounds()) normed_.round(i);
        });
        meet(size_);
    }

    void tile(Member& me) {
        const Model& m = *m_;
        each_row(me, [&](int i) { m.embed(step_->ids[first_ + i], x_.row(i)); });
        if (m.s.joins) join(me);
        for (int l = 0; l < m.s.layers; l++) {
            const Layer& layer = m.layers[l];
            float* cache = step_->cache + l * step_->layer_stride;
            norm_rows(me, layer.input_norm);
            if (m.latent()) latent_attention(me, layer, cache);
            else grouped_attention(me, layer, cache);
            if (m.rounds()) {
                each_row(me, [&](int i) { values_.round(i); });
                meet(size_);
            }
            project(me, layer.out, values_, Add{x_.row(0), x_.stride()});
            meet(size_);
            if (!m.latent() && m.s.out_bias) add_out_bias(me, layer);
            norm_rows(me, layer.post_norm);
            if (m.routes(l)) mixture(me, layer);
            if (!m.routes(l) || m.s.shared_inner) feed_forward(me, layer);
        }
        logits(me);
    }

    // What an MTP module begins with (V3 report, eq. 21): the next token's embedding before the state it follows.
    void join(Member& me) {
        const Shape& s = m_->s;
        each_row(me, [&](int i) {
            float* to = joined_.row(i);
            const float* state = step_->before + (int64_t)(first_ + i) * s.hidden;
            normalise(x_.row(i), m_->join.embedding_norm, s.hidden, s.epsilon, to);
            normalise(state, m_->join.state_norm, s.hidden, s.epsilon, to + s.hidden);
            if (m_->rounds()) joined_.round(i);
        });
        meet(size_);
        project(me, m_->join.matrix, joined_, Store{x_.row(0), x_.stride()});
        meet(size_);
    }

    void add_out_bias(Member& me, const Layer& l) {
        each_row(me, [&](int i) {
            for (int d = 0; d < m_->s.hidden; d++) x_.row(i)[d] += l.out_bias[d];
        });
        meet(size_);
    }

    // The cache -----------------------------------------------------------------------------------------------------

    float* cached(float* cache, int i, int64_t place) const {
        const int64_t page = pages_[i][place / step_->page_size];
        return cache + (page * step_->page_size + place % step_->page_size) * m_->width();
    }

    int length(int i) const { return (int)step_->positions[first_ + i] + 1; }

    // How many tokens two rows both see, in whole pages or to where the shorter ends.
    int shared(int a, int b) const {
        const int size = step_->page_size, shorter = std::min(length(a), length(b));
        int t = 0;
        while (t < shorter && pages_[a][t / size] == pages_[b][t / size]) t += size;
        return std::min(t, shorter);
    }

    // Rows beside each other that share enough: at least half of what they might, and not too little. No member is to be
    // without a group for want of rows.
    void find_groups() {
        groups_.clear();
        const int most = std::min(GROUP_ROWS, (count_ + size_ - 1) / size_);
        for (int i = 0; i < count_;) {
            RowGroup group{i, 1, length(i)};
            for (int j = i + 1; j < count_ && group.rows < most; j++) {
                const int both = std::min(group.shared, shared(i, j));
                if (both < LEAST_SHARED || both * 2 < group.shared) break;
                group.shared = both;
                group.rows++;
            }
            if (group.rows == 1) group.shared = 0;
            groups_.push_back(group);
            i += group.rows;
        }
    }

    // Where tokens [from, to) of row i are kept.
    void find_keys(Member& me, float* cache, int i, int from, int to) const {
        const int width = m_->width(), size = step_->page_size;
        if ((int)me.keys.size() < to - from) me.keys.resize(to - from);
        for (int t = from; t < to;) {
            const int page = t / size, stop = std::min(to, (page + 1) * size);
            const float* key = cache + (pages_[i][page] * size + t - page * size) * (int64_t)width;
            for (; t < stop; t++, key += width) me.keys[t - from] = key;
        }
    }

    // Groups are shared out; where there are fewer than members, their heads are.
    template <class Work>
    void each_head(Member& me, int items, const Work& work) {
        const int units = (int)groups_.size() * items;
        const bool by_group = (int)groups_.size() >= 2 * size_;
        if (by_group) {
            for (int g = me.index; g < (int)groups_.size(); g += size_)
                for (int item = 0; item < items; item++) work(groups_[g], item);
        } else {
            for (int unit = me.index; unit < units; unit += size_) work(groups_[unit / items], unit % items);
        }
        meet(size_);
    }

    void rotate(const float* x, int64_t place, int pairs, float scale, bool neighbours, float* out) const {
        const float *c = m_->s.cosines + place * pairs, *n = m_->s.sines + place * pairs;
        const int step = neighbours ? 2 : 1, other = neighbours ? 1 : pairs;
        for (int p = 0; p < pairs; p++) {
            const float a = x[step * p] * scale, b = x[step * p + other] * scale;
            out[step * p] = a * c[p] - b * n[p];
            out[step * p + other] = a * n[p] + b * c[p];
        }
    }

    // Grouped-query attention ---------------------------------------------------------------------------------------

    void grouped_attention(Member& me, const Layer& l, float* cache) {
        const Shape& s = m_->s;
        project(me, l.in, normed_, Store{first_out_.row(0), first_out_.stride()});
        meet(size_);
        each_row(me, [&](int i) { place_heads(l, cache, i); });
        meet(size_);
        const int shared = s.heads / s.key_heads, parts = (shared + HEADS - 1) / HEADS;
        each_head(me, s.key_heads * parts, [&](const RowGroup& group, int item) {
            const int g = item / parts, h = g * shared + item % parts * HEADS;
            const Reading reading{g * s.head, s.head, (s.key_heads + g) * s.head, s.head};
            const Heads heads{queries_.row(0) + h * s.head, queries_.stride(), s.head,
                              values_.row(0) + h * s.head, values_.stride(), s.head};
            attend(me, cache, group, std::min(HEADS, (g + 1) * shared - h), reading, heads);
        });
    }

    // Biases, norms and rotation of a row's heads: queries, scaled for the softmax, and its line of the cache.
    void place_heads(const Layer& l, float* cache, int i) {
        const Shape& s = m_->s;
        const int64_t place = step_->positions[first_ + i];
        float* row = first_out_.row(i);
        float* keys = row + s.heads * s.head;
        float* values = keys + s.key_heads * s.head;
        if (s.qkv_bias) {
            for (int k = 0; k < s.heads * s.head; k++) row[k] += l.q_bias[k];
            for (int k = 0; k < s.key_heads * s.head; k++) keys[k] += l.k_bias[k], values[k] += l.v_bias[k];
        }
        for (int h = 0; s.qk_norm && h < s.heads + s.key_heads; h++)
            normalise(row + h * s.head, h < s.heads ? l.q_norm : l.kv_norm, s.head, s.epsilon, row + h * s.head);
        for (int h = 0; h < s.heads; h++)
            rotate(row + h * s.head, place, s.head / 2, s.softmax_scale, s.neighbours, queries_.row(i) + h * s.head);
        float* line = cached(cache, i, place);
        for (int g = 0; g < s.key_heads; g++)
            rotate(keys + g * s.head, place, s.head / 2, 1.0f, s.neighbours, line + g * s.head);
        std::memcpy(line + s.key_heads * s.head, values, s.key_heads * s.head * 4);
    }

    // Latent attention ----------------------------------------------------------------------------------------------

    void latent_attention(Member& me, const Layer& l, float* cache) {
        const Shape& s = m_->s;
        project(me, l.in, normed_, Store{first_out_.row(0), first_out_.stride()});
        meet(size_);
        each_row(me, [&](int i) {
            if (s.q_rank) {
                normalise(first_out_.row(i), l.q_norm, s.q_rank, s.epsilon, q_normed_.row(i));
                if (m_->rounds()) q_normed_.round(i);
            }
            write_latent(l, cache, i);
        });
        meet(size_);
        project(me, l.queries, s.q_rank ? q_normed_ : normed_, Store{queries_.row(0), queries_.stride()});
        meet(size_);
        for (int h = me.index; h < s.heads; h += size_) fold(me, l, h);
        meet(size_);
        const int parts = (s.heads + HEADS - 1) / HEADS;
        const Reading reading{0, m_->width(), 0, s.kv_rank};
        each_head(me, parts, [&](const RowGroup& group, int item) {
            const int h = item * HEADS;
            const Heads heads{folded_.row(h), s.heads * folded_.stride(), folded_.stride(),
                              seen_.row(h), s.heads * seen_.stride(), seen_.stride()};
            attend(me, cache, group, std::min(HEADS, s.heads - h), reading, heads);
        });
        for (int h = me.index; h < s.heads; h += size_) expand(me, l, h);
        meet(size_);
    }

    void write_latent(const Layer& l, float* cache, int i) {
        const Shape& s = m_->s;
        const int64_t place = step_->positions[first_ + i];
        const float* latent = first_out_.row(i) + padded(s.q_rank);
        float* to = cached(cache, i, place);
        normalise(latent, l.kv_norm, s.kv_rank, s.epsilon, to);
        rotate(latent + s.kv_rank, place, s.rope / 2, 1.0f, true, to + s.kv_rank);
    }

    // A head's queries into the space of the cached latents: [W_UK^T q ; rotated q], scaled for the softmax.
    void fold(Member& me, const Layer& l, int h) {
        const Shape& s = m_->s;
        me.head_rows.fit(TILE, s.nope, m_->rounds());
        for (int i = 0; i < count_; i++) {
            std::memcpy(me.head_rows.row(i), queries_.row(i) + h * m_->key_width(), s.nope * 4);
            if (m_->rounds()) me.head_rows.round(i);
        }
        product(l.key_up[h], inputs(me, me.head_rows, count_), count_,
                Store{folded_.row(h), s.heads * folded_.stride()});
        for (int i = 0; i < count_; i++) {
            float* to = folded_.row(i * s.heads + h);
            for (int c = 0; c < s.kv_rank; c++) to[c] *= s.softmax_scale;
            rotate(queries_.row(i) + h * m_->key_width() + s.nope, step_->positions[first_ + i], s.rope / 2,
                   s.softmax_scale, true, to + s.kv_rank);
        }
    }

    // From what a head saw of the latents to its values.
    void expand(Member& me, const Layer& l, int h) {
        const Shape& s = m_->s;
        me.in.resize(count_);
        for (int i = 0; i < count_; i++) {
            if (m_->rounds()) seen_.round(i * s.heads + h);
            me.in[i] = seen_.in(i * s.heads + h);
        }
        me.head_rows.fit(TILE, s.value);
        product(l.value_up[h], me.in.data(), count_, Store{me.head_rows.row(0), me.head_rows.stride()});
        for (int i = 0; i < count_; i++)
            std::memcpy(values_.row(i) + h * s.value, me.head_rows.row(i), s.value * 4);
    }

    // Attention over what is cached -----------------------------------------------------------------------------------

    void attend(Member& me, float* cache, const RowGroup& group, int heads, const Reading& r, const Heads& at) {
        switch (heads) {
            case 1: attend_heads<1>(me, cache, group, r, at); break;
            case 2: attend_heads<2>(me, cache, group, r, at); break;
            case 3: attend_heads<3>(me, cache, group, r, at); break;
            default: attend_heads<HEADS>(me, cache, group, r, at);
        }
    }

    // What a row sums is in the order of its tokens, shared or not: a row alone computes the same bits.
    template <int N>
    void attend_heads(Member& me, float* cache, const RowGroup& group, const Reading& r, const Heads& at) {
        int longest = 0;
        for (int i = 0; i < group.rows; i++) longest = std::max(longest, length(group.first + i));
        me.scores.fit(group.rows * N, longest);
        each_part(me, cache, group, [&](int i, int from, int to, const float* const* keys) {
            score<N>(keys, from, to, r, at.q + (group.first + i) * at.q_row, at.q_head, me.scores.row(i * N),
                     me.scores.stride());
        });
        for (int i = 0; i < group.rows; i++)
            for (int h = 0; h < N; h++) softmax(me.scores.row(i * N + h), length(group.first + i));
        each_part(me, cache, group, [&](int i, int from, int to, const float* const* keys) {
            gather<N>(keys, from, to, r, me.scores.row(i * N), me.scores.stride(),
                      at.out + (group.first + i) * at.out_row, at.out_head);
        });
    }

    // What all see, a chunk at a time for every row; then each row's own. `keys` are those of tokens [from, to).
    template <class Work>
    void each_part(Member& me, float* cache, const RowGroup& group, const Work& work) {
        if (group.shared) find_keys(me, cache, group.first, 0, group.shared);
        for (int from = 0; from < group.shared; from += CHUNK_KEYS) {
            const int to = std::min(group.shared, from + CHUNK_KEYS);
            for (int i = 0; i < group.rows; i++) work(i, from, to, me.keys.data() + from);
        }
        for (int i = 0; i < group.rows; i++) {
            const int stop = length(group.first + i);
            find_keys(me, cache, group.first + i, group.shared, stop);
            if (group.shared < stop) work(i, group.shared, stop, me.keys.data());
        }
    }

    // Four keys at a time; where fewer are left, the last one again. A key's sum is the same whoever stands beside it.
    template <int N>
    static void score(const float* const* keys, int from, int to, const Reading& r, const float* q, int64_t q_head,
                      float* scores, int64_t stride) {
        const int whole = r.key_width / LANES * LANES;
        for (int t = from; t < to; t += 4) {
            const int count = std::min(4, to - t);
            const float* key[4];
            for (int j = 0; j < 4; j++) key[j] = keys[t - from + std::min(j, count - 1)] + r.key;
            Vec acc[N][4] = {};
            for (int w = 0; w < whole; w += LANES) {
                Vec query[N];
                for (int h = 0; h < N; h++) query[h] = load(q + h * q_head + w);
                for (int j = 0; j < 4; j++) {
                    const Vec k = load(key[j] + w);
                    for (int h = 0; h < N; h++) acc[h][j] += k * query[h];
                }
            }
            for (int h = 0; h < N; h++) {
                float total[4];
                if (count == 4 && whole == r.key_width) {
                    sums_of_four(acc[h], scores + h * stride + t);
                    continue;
                }
                sums_of_four(acc[h], total);
                for (int j = 0; j < count; j++) {
                    for (int w = whole; w < r.key_width; w++) total[j] += key[j][w] * q[h * q_head + w];
                    scores[h * stride + t + j] = total[j];
                }
            }
        }
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

    // Adds the weighted values of tokens [from, to) to what those before came to.
    template <int N>
    static void gather(const float* const* keys, int from, int to, const Reading& r, const float* weights,
                       int64_t stride, float* out, int64_t out_head) {
        int c = 0;
        for (; c + SPAN * LANES <= r.value_width; c += SPAN * LANES)
            gather_span<N, SPAN>(keys, from, to, weights, stride, r.value + c, out + c, out_head);
        for (; c + LANES <= r.value_width; c += LANES)
            gather_span<N, 1>(keys, from, to, weights, stride, r.value + c, out + c, out_head);
        for (; c < r.value_width; c++)
            for (int h = 0; h < N; h++) {
                float total = from ? out[h * out_head + c] : 0;
                for (int t = from; t < to; t++) total += weights[h * stride + t] * keys[t - from][r.value + c];
                out[h * out_head + c] = total;
            }
    }

    template <int N, int V>
    static void gather_span(const float* const* keys, int from, int to, const float* weights, int64_t stride, int at,
                            float* out, int64_t out_head) {
        Vec acc[N][V] = {};
        for (int h = 0; from && h < N; h++)
            for (int v = 0; v < V; v++) acc[h][v] = load(out + h * out_head + v * LANES);
        for (int t = from; t < to; t++) {
            Vec value[V];
            for (int v = 0; v < V; v++) value[v] = load(keys[t - from] + at + v * LANES);
            for (int h = 0; h < N; h++)
                for (int v = 0; v < V; v++) acc[h][v] += weights[h * stride + t] * value[v];
        }
        for (int h = 0; h < N; h++)
            for (int v = 0; v < V; v++) store(out + h * out_head + v * LANES, acc[h][v]);
    }

    // Feed-forward --------------------------------------------------------------------------------------------------

    void feed_forward(Member& me, const Layer& l) {
        project(me, l.gate_up, normed_, Gated{inner_.row(0), inner_.stride()});
        meet(size_);
        if (m_->rounds()) {
            each_row(me, [&](int i) { inner_.round(i, l.down.inputs()); });
            meet(size_);
        }
        project(me, l.down, inner_, Add{x_.row(0), x_.stride()});
        meet(size_);
    }

    // Copies of rows stand expert after expert; every member computes its part of each product.
    void mixture(Member& me, const Layer& l) {
        project(me, l.router, normed_, Store{affinity_.row(0), affinity_.stride()});
        meet(size_);
        if (me.index == 0) {
            of_expert_.assign(m_->s.experts, {});
            for (int i = 0; i < count_; i++) route(me, l, i);
            places_.assign(1, 0);
            for (const std::vector<Copy>& copies : of_expert_) places_.push_back(places_.back() + (int)copies.size());
        }
        meet(size_);
        each_expert(me, [&](int x, int first, int n) {
            for (int j = 0; j < n; j++) me.in[j] = normed_.in(of_expert_[x][j].row);
            product(l.expert_gate_up[x], me.in.data(), n, Gated{routed_.row(first), routed_.stride()}, me.index, size_);
        });
        if (m_->rounds()) {
            for (int c = me.index; c < places_.back(); c += size_) routed_.round(c, m_->s.expert_inner);
            meet(size_);
        }
        each_expert(me, [&](int x, int first, int n) {
            for (int j = 0; j < n; j++) {
                me.in[j] = routed_.in(first + j);
                me.token[j] = of_expert_[x][j].row, me.weight[j] = of_expert_[x][j].weight;
            }
            const Scatter to{x_.row(0), x_.stride(), me.token.data(), me.weight.data()};
            product(l.expert_down[x], me.in.data(), n, to, me.index, size_);
        });
    }

    template <class Work>
    void each_expert(Member& me, const Work& work) {
        for (int x = 0; x < m_->s.experts; x++) {
            const int n = (int)of_expert_[x].size();
            if (n == 0) continue;
            me.in.resize(n), me.token.resize(n), me.weight.resize(n);
            work(x, places_[x], n);
        }
        meet(size_);
    }

    // Scores choose groups and experts, with a bias where there is one, and without it they weigh (V3 report, eq. 12-16).
    void route(Member& me, const Layer& l, int i) {
        const Shape& s = m_->s;
        float* scores = affinity_.row(i);
        if (s.sigmoid) for (int x = 0; x < padded(s.experts); x += LANES) store(scores + x, sigmoid(load(scores + x)));
        else softmax(scores, s.experts);
        std::vector<float>& choice = me.choice;
        choice.resize(s.experts);
        for (int x = 0; x < s.experts; x++) choice[x] = scores[x] + (s.sigmoid ? l.router_bias[x] : 0);
        if (s.kept_groups < s.groups) keep_groups(me);
        float total = 0;
        int chosen[64];
        for (int k = 0; k < s.chosen; k++) {
            chosen[k] = best(choice);
            choice[chosen[k]] = -std::numeric_limits<float>::infinity();
            total += scores[chosen[k]];
        }
        const float scale = s.routed_scale / (s.normalise ? total + 1e-20f : 1.0f);
        for (int k = 0; k < s.chosen; k++) of_expert_[chosen[k]].push_back({i, scores[chosen[k]] * scale});
    }

    // -inf outside the groups whose best one or two experts score highest together.
    void keep_groups(Member& me) {
        const Shape& s = m_->s;
        const int size = s.experts / s.groups;
        me.group.resize(s.groups);
        for (int g = 0; g < s.groups; g++) {
            float first = -std::numeric_limits<float>::infinity(), second = first;
            for (int x = g * size; x < (g + 1) * size; x++) {
                if (me.choice[x] > first) second = first, first = me.choice[x];
                else if (me.choice[x] > second) second = me.choice[x];
            }
            me.group[g] = s.group_best == 1 ? first : first + second;
        }
        std::vector<char> kept(s.groups, false);
        for (int k = 0; k < s.kept_groups; k++) {
            const int g = best(me.group);
            kept[g] = true;
            me.group[g] = -std::numeric_limits<float>::infinity();
        }
        for (int x = 0; x < s.experts; x++)
            if (!kept[x / size]) me.choice[x] = -std::numeric_limits<float>::infinity();
    }

    static int best(const std::vector<float>& values) {
        int at = 0;
        for (int i = 1; i < (int)values.size(); i++)
            if (values[i] > values[at]) at = i;
        return at;
    }

    void logits(Member& me) {
        const Shape& s = m_->s;
        const bool rounds = s.head_format != FULL;
        each_row(me, [&](int i) {
            if (step_->outputs[first_ + i] < 0 && !step_->states) return;
            normalise(x_.row(i), m_->norm, s.hidden, s.epsilon, normed_.row(i));
            if (step_->states)
                std::memcpy(step_->states + (int64_t)(first_ + i) * s.hidden, normed_.row(i), s.hidden * 4);
            if (rounds) normed_.round(i);
        });
        meet(size_);
        me.in.clear(), me.line.clear();
        for (int i = 0; i < count_; i++) {
            if (step_->outputs[first_ + i] < 0) continue;
            me.in.push_back(normed_.in(i));
            me.line.push_back(step_->outputs[first_ + i]);
        }
        const Placed to{step_->logits, step_->logits_stride, me.line.data()};
        product(m_->head, me.in.data(), (int)me.in.size(), to, me.index, size_);
        meet(size_);
    }

    struct Copy {
        int row;
        float weight;
    };

    const Model* m_ = nullptr;
    const Step* step_ = nullptr;
    int first_ = 0, count_ = 0, size_ = 1;
    const int64_t* pages_[TILE] = {};
    Rows x_, joined_, normed_, first_out_, q_normed_, queries_, folded_, seen_, values_, inner_, routed_, affinity_;
    std::vector<std::vector<Copy>> of_expert_;
    std::vector<int> places_;
    std::vector<RowGroup> groups_;
    std::atomic<int> arrived_{0};
    std::atomic<uint32_t> turn_{0};
};

}  // namespace raison
