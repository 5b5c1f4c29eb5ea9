// Latent attention (MLA) in its absorbed form: queries are folded into the space of the cached latents.
#pragma once

#include "grouped_query.hpp"

namespace raison {

class Latent {
  public:
    Latent(Tile& tile, Attention& attention) : tile_(tile), attention_(attention) {}

    static Layout layout(const Shape& s, int page_size) { return {page_size, 1, s.kv_rank + s.rope}; }

    void prepare(const Model& model) {
        const Shape& s = model.s;
        first_out_.fit(TILE, padded(s.q_rank) + model.width());
        q_normed_.fit(TILE, s.q_rank, model.rounds());
        queries_.fit(TILE, model.queries());
        folded_.fit(TILE * s.heads, s.kv_rank + s.rope + LANES);
        seen_.fit(TILE * s.heads, s.kv_rank, model.rounds());
    }

    // Values of all heads, into `values`.
    template <class Number>
    void run(const Layer& l, Number* cache, Rows& values) {
        const Shape& s = tile_.model->s;
        project_queries(l, cache);
        each_head([&](Member& me, int h) { fold(me, l, h); });
        attention_.each_head((s.heads + HEADS - 1) / HEADS, [&](Member& me, const RowGroup& group, int item) {
            const int h = item * HEADS;
            const Heads heads{folded_.row(h), s.heads * folded_.stride(), folded_.stride(),
                              seen_.row(h), s.heads * seen_.stride(), seen_.stride()};
            attention_.attend(me, cache, group, std::min(HEADS, s.heads - h), {0, 0, s.kv_rank, false}, heads);
        });
        each_head([&](Member& me, int h) { expand(me, l, h, values); });
    }

  private:
    template <class Work>
    void each_head(const Work& work) {
        tile_.share([&](Member& me, int part) {
            for (int h = part; h < tile_.model->s.heads; h += tile_.size) work(me, h);
        });
    }

    template <class Number>
    void project_queries(const Layer& l, Number* cache) {
        const Shape& s = tile_.model->s;
        tile_.project(l.in, tile_.normed, Store{first_out_.row(0), first_out_.stride()});
        tile_.each_row([&](int i) {
            if (s.q_rank) {
                normalise(first_out_.row(i), l.q_norm, s.q_rank, s.epsilon, q_normed_.row(i));
                if (tile_.rounds()) q_normed_.round(i);
            }
            write_latent(l, cache, i);
        });
        tile_.project(l.queries, s.q_rank ? q_normed_ : tile_.normed, Store{queries_.row(0), queries_.stride()});
    }

    template <class Number>
    void write_latent(const Layer& l, Number* cache, int i) {
        const Shape& s = tile_.model->s;
        float* latent = first_out_.row(i) + padded(s.q_rank);
        normalise(latent, l.kv_norm, s.kv_rank, s.epsilon, latent);
        rotate(latent + s.kv_rank, s, tile_.place(i), s.rope / 2, 1.0f, true, latent + s.kv_rank);
        keep(latent, s.kv_rank + s.rope, attention_.own(cache, i, 0));
    }

    // A head's queries into the space of the cached latents: [W_UK^T q ; rotated q], scaled for the softmax.
    void fold(Member& me, const Layer& l, int h) {
        const Shape& s = tile_.model->s;
        const int width = tile_.model->key_width();
        me.head_rows.fit(TILE, s.nope, tile_.rounds());
        for (int i = 0; i < tile_.count; i++) {
            std::memcpy(me.head_rows.row(i), queries_.row(i) + h * width, s.nope * 4);
            if (tile_.rounds()) me.head_rows.round(i);
        }
        product(l.key_up[h], tile_.inputs(me.in, me.head_rows), tile_.count,
                Store{folded_.row(h), s.heads * folded_.stride()});
        for (int i = 0; i < tile_.count; i++) {
            float* to = folded_.row(i * s.heads + h);
            for (int c = 0; c < s.kv_rank; c++) to[c] *= s.softmax_scale;
            rotate(queries_.row(i) + h * width + s.nope, s, tile_.place(i), s.rope / 2, s.softmax_scale, true,
                   to + s.kv_rank);
        }
    }

    // From what a head saw of the latents to its values.
    void expand(Member& me, const Layer& l, int h, Rows& values) {
        const Shape& s = tile_.model->s;
        me.in.resize(tile_.count);
        for (int i = 0; i < tile_.count; i++) {
            if (tile_.rounds()) seen_.round(i * s.heads + h);
            me.in[i] = seen_.in(i * s.heads + h);
        }
        me.head_rows.fit(TILE, s.value);
        product(l.value_up[h], me.in.data(), tile_.count, Store{me.head_rows.row(0), me.head_rows.stride()});
        for (int i = 0; i < tile_.count; i++)
            std::memcpy(values.row(i) + h * s.value, me.head_rows.row(i), s.value * 4);
    }

    Tile& tile_;
    Attention& attention_;
    Rows first_out_, q_normed_, queries_, folded_, seen_;
};

}  // namespace raison
