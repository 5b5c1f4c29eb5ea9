// A team of threads on its way through the network with a tile of rows.
//
// Small models: every thread is a team of its own with other sequences, and meets nobody. Large ones: all threads are one
// team that shares out the outputs of every product, so that each weight is read once a step; `meet` is where they wait
// for each other.
#pragma once

#include "latent.hpp"
#include "mixture.hpp"

namespace raison {

class Walk {
  public:
    // The whole of segments [first, last), by every member at once.
    void run(const Model& model, const Step& step, int first_segment, int last_segment, int size, Member& me) {
        if (me.index == 0) prepare(model, step, size);
        tile_.meet(size);
        const int stop = (int)step.starts[last_segment];
        for (int segment = first_segment, start = (int)step.starts[first_segment]; start < stop; start += TILE) {
            if (me.index == 0) {
                tile_.take(start, stop, segment);
                attention_.find_groups(model.latent() ? Latent::layout(model.s, step.page_size)
                                                      : GroupedQuery::layout(model.s, step.page_size));
            }
            tile_.meet();
            if (step.cache_bits == 8) through<Byte>(me);
            else if (step.cache_bits == 16) through<Half>(me);
            else through<float>(me);
        }
    }

  private:
    void prepare(const Model& model, const Step& step, int size) {
        tile_.model = &model, tile_.step = &step, tile_.size = size;
        const Shape& s = model.s;
        const bool r = model.rounds();
        tile_.x.fit(TILE, s.hidden);
        tile_.normed.fit(TILE, s.hidden, r || s.head_format != FULL);
        if (s.joins) joined_.fit(TILE, 2 * s.hidden, r);
        if (model.latent()) latent_.prepare(model);
        else grouped_query_.prepare(model);
        if (s.experts) mixture_.prepare(model);
        values_.fit(TILE, model.values(), r);
        inner_.fit(TILE, std::max(s.inner, s.shared_inner), r);
    }

    template <class Number>
    void through(Member& me) {
        const Model& m = *tile_.model;
        tile_.each_row(me, [&](int i) { m.embed(tile_.step->ids[tile_.first + i], tile_.x.row(i)); });
        if (m.s.joins) join(me);
        for (int l = 0; l < m.s.layers; l++) {
            const Layer& layer = m.layers[l];
            Number* cache = (Number*)tile_.step->cache + l * tile_.step->layer_stride;
            tile_.norm_rows(me, layer.input_norm);
            if (m.latent()) latent_.run(me, layer, cache, values_);
            else grouped_query_.run(me, layer, cache, values_);
            add_values(me, layer);
            tile_.norm_rows(me, layer.post_norm);
            if (m.routes(l)) mixture_.run(me, layer);
            if (!m.routes(l) || m.s.shared_inner) feed_forward(me, layer);
        }
        logits(me);
    }

    // What an MTP module begins with (V3 report, eq. 21): the next token's embedding before the state it follows.
    void join(Member& me) {
        const Model& m = *tile_.model;
        tile_.each_row(me, [&](int i) {
            float* to = joined_.row(i);
            const float* state = tile_.step->before + (int64_t)(tile_.first + i) * m.s.hidden;
            normalise(tile_.x.row(i), m.join.embedding_norm, m.s.hidden, m.s.epsilon, to);
            normalise(state, m.join.state_norm, m.s.hidden, m.s.epsilon, to + m.s.hidden);
            if (m.rounds()) joined_.round(i);
        });
        tile_.meet();
        tile_.project(me, m.join.matrix, joined_, Store{tile_.x.row(0), tile_.x.stride()});
        tile_.meet();
    }

    void add_values(Member& me, const Layer& l) {
        if (tile_.rounds()) {
            tile_.each_row(me, [&](int i) { values_.round(i); });
            tile_.meet();
        }
        add(me, l.out, values_);
        const Shape& s = tile_.model->s;
        if (tile_.model->latent() || !s.out_bias) return;
        tile_.each_row(me, [&](int i) {
            for (int d = 0; d < s.hidden; d++) tile_.x.row(i)[d] += l.out_bias[d];
        });
        tile_.meet();
    }

    void feed_forward(Member& me, const Layer& l) {
        tile_.project(me, l.gate_up, tile_.normed, Gated{inner_.row(0), inner_.stride()});
        tile_.meet();
        if (tile_.rounds()) {
            tile_.each_row(me, [&](int i) { inner_.round(i, l.down.inputs()); });
            tile_.meet();
        }
        add(me, l.down, inner_);
    }

    // A product onto the residual stream.
    void add(Member& me, const Matrix& w, Rows& rows) {
        tile_.project(me, w, rows, Add{tile_.x.row(0), tile_.x.stride()});
        tile_.meet();
    }

    void logits(Member& me) {
        const Step& step = *tile_.step;
        norm_outputs(me);
        me.in.clear(), me.line.clear();
        for (int i = 0; i < tile_.count; i++) {
            if (step.outputs[tile_.first + i] < 0) continue;
            me.in.push_back(tile_.normed.in(i));
            me.line.push_back(step.outputs[tile_.first + i]);
        }
        const Placed to{step.logits, step.logits_stride, me.line.data()};
        product(tile_.model->head, me.in.data(), (int)me.in.size(), to, me.index, tile_.size);
        tile_.meet();
    }

    void norm_outputs(Member& me) {
        const Shape& s = tile_.model->s;
        const Step& step = *tile_.step;
        tile_.each_row(me, [&](int i) {
            const int64_t row = tile_.first + i;
            if (step.outputs[row] < 0 && !step.states) return;
            normalise(tile_.x.row(i), tile_.model->norm, s.hidden, s.epsilon, tile_.normed.row(i));
            if (step.states) std::memcpy(step.states + row * s.hidden, tile_.normed.row(i), s.hidden * 4);
            if (s.head_format != FULL) tile_.normed.round(i);
        });
        tile_.meet();
    }

    Tile tile_;
    Attention attention_{tile_};
    GroupedQuery grouped_query_{tile_, attention_};
    Latent latent_{tile_, attention_};
    Mixture mixture_{tile_};
    Rows joined_, values_, inner_;
};

}  // namespace raison
