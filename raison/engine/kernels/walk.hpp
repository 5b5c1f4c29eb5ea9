// A thread on its way through the network with a tile of rows, and those that help it.
//
// Small models: every thread walks alone, with other sequences. Large ones: one thread walks and shares out the outputs
// of every product (Tile::share), so that each weight is read once a step.
#pragma once

#include "latent.hpp"
#include "mixture.hpp"

namespace raison {

class Walk {
  public:
    // The whole of segments [first, last), on up to `size` threads.
    void run(const Model& model, const Step& step, int first_segment, int last_segment, int size) {
        prepare(model, step, size);
        const int stop = (int)step.starts[last_segment];
        for (int segment = first_segment, start = (int)step.starts[first_segment]; start < stop; start += TILE) {
            tile_.take(start, stop, segment);
            attention_.find_groups(model.latent() ? Latent::layout(model.s, step.page_size)
                                                  : GroupedQuery::layout(model.s, step.page_size));
            if (step.cache_bits == 8) through<Byte>();
            else if (step.cache_bits == 16) through<Half>();
            else through<float>();
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
        inner_.fit(TILE, s.inner, r);
    }

    template <class Number>
    void through() {
        const Model& m = *tile_.model;
        tile_.each_row([&](int i) { m.embed(tile_.step->ids[tile_.first + i], tile_.x.row(i)); });
        if (m.s.joins) join();
        for (int l = 0; l < m.s.layers; l++) {
            const Layer& layer = m.layers[l];
            Number* cache = (Number*)tile_.step->cache + l * tile_.step->layer_stride;
            tile_.norm_rows(layer.input_norm);
            if (m.latent()) latent_.run(layer, cache, values_);
            else grouped_query_.run(layer, cache, values_);
            add_values(layer);
            tile_.norm_rows(layer.post_norm);
            if (m.routes(l)) mixture_.run(layer);
            else feed_forward(layer);
        }
        logits();
    }

    // What an MTP module begins with (V3 report, eq. 21): the next token's embedding before the state it follows.
    void join() {
        const Model& m = *tile_.model;
        tile_.each_row([&](int i) {
            float* to = joined_.row(i);
            const float* state = tile_.step->before + (int64_t)(tile_.first + i) * m.s.hidden;
            normalise(tile_.x.row(i), m.join.embedding_norm, m.s.hidden, m.s.epsilon, to);
            normalise(state, m.join.state_norm, m.s.hidden, m.s.epsilon, to + m.s.hidden);
            if (m.rounds()) joined_.round(i);
        });
        tile_.project(m.join.matrix, joined_, Store{tile_.x.row(0), tile_.x.stride()});
    }

    void add_values(const Layer& l) {
        if (tile_.rounds()) tile_.each_row([&](int i) { values_.round(i); });
        add(l.out, values_);
        const Shape& s = tile_.model->s;
        if (tile_.model->latent() || !s.out_bias) return;
        tile_.each_row([&](int i) {
            for (int d = 0; d < s.hidden; d++) tile_.x.row(i)[d] += l.out_bias[d];
        });
    }

    void feed_forward(const Layer& l) {
        tile_.project(l.gate_up, tile_.normed, Gated{inner_.row(0), inner_.stride()});
        if (tile_.rounds()) tile_.each_row([&](int i) { inner_.round(i, l.down.inputs()); });
        add(l.down, inner_);
    }

    // A product onto the residual stream.
    void add(const Matrix& w, Rows& rows) {
        tile_.project(w, rows, Add{tile_.x.row(0), tile_.x.stride()});
    }

    void logits() {
        const Step& step = *tile_.step;
        norm_outputs();
        in_.clear(), line_.clear();
        for (int i = 0; i < tile_.count; i++) {
            if (step.outputs[tile_.first + i] < 0) continue;
            in_.push_back(tile_.normed.in(i));
            line_.push_back(step.outputs[tile_.first + i]);
        }
        const Placed to{step.logits, step.logits_stride, line_.data()};
        tile_.share([&](Member&, int part) {
            product(tile_.model->head, in_.data(), (int)in_.size(), to, part, tile_.size);
        });
    }

    void norm_outputs() {
        const Shape& s = tile_.model->s;
        const Step& step = *tile_.step;
        tile_.each_row([&](int i) {
            const int64_t row = tile_.first + i;
            if (step.outputs[row] < 0 && !step.states) return;
            normalise(tile_.x.row(i), tile_.model->norm, s.hidden, s.epsilon, tile_.normed.row(i));
            if (step.states) std::memcpy(step.states + row * s.hidden, tile_.normed.row(i), s.hidden * 4);
            if (s.head_format != FULL) tile_.normed.round(i);
        });
    }

    Tile tile_;
    Attention attention_{tile_};
    GroupedQuery grouped_query_{tile_, attention_};
    Latent latent_{tile_, attention_};
    Mixture mixture_{tile_};
    Rows joined_, values_, inner_;
    std::vector<In> in_;
    std::vector<int64_t> line_;
};

}  // namespace raison
