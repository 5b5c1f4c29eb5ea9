// Routed experts: each row's few, and their products over the rows that chose them.
#pragma once

#include <limits>
#include <utility>

#include "scores.hpp"
#include "tile.hpp"

namespace raison {

class Mixture {
  public:
    explicit Mixture(Tile& tile) : tile_(tile) {}

    void prepare(const Model& model) {
        const Shape& s = model.s;
        const int copies = TILE * std::max(1, s.chosen);
        routed_.fit(copies, s.expert_inner, model.rounds());
        if (s.shared_inner) shared_.fit(TILE, s.shared_inner, model.rounds());
        affinity_.fit(TILE, s.experts);
        chosen_.resize(copies), share_.resize(copies);
    }

    // Copies of rows stand expert after expert; each part of a product is of all experts' same outputs.
    void run(const Layer& l) {
        choose(l);
        sort();
        widen(l);
        narrow(l);
    }

  private:
    bool shares() const { return tile_.model->s.shared_inner; }

    // Each row's experts; and gate and up of the shared one, which reads the same rows as the router.
    void choose(const Layer& l) {
        const In* in = tile_.inputs(in_, tile_.normed);
        tile_.share([&](Member&, int part) {
            product(l.router, in, tile_.count, Store{affinity_.row(0), affinity_.stride()}, part, tile_.size);
            if (!shares()) return;
            product(l.gate_up, in, tile_.count, Gated{shared_.row(0), shared_.stride()}, part, tile_.size);
        });
        tile_.each_row([&](int i) {
            route(Tile::mine(), l, i);
            if (shares() && tile_.rounds()) shared_.round(i);
        });
    }

    // Gate and up of the chosen experts.
    void widen(const Layer& l) {
        const auto from = [&](int c) { return tile_.normed.in(token_[c]); };
        const auto to = [&](int c) { return Gated{routed_.row(c), routed_.stride()}; };
        tile_.share([&](Member& me, int part) { each_expert(me, part, l.expert_gate_up, l.expert_down, from, to); });
        if (tile_.rounds()) tile_.each(places_.back(), [&](int c) { routed_.round(c); });
    }

    // Down, onto the residual stream: a part's outputs of all experts are one thread's to add up.
    void narrow(const Layer& l) {
        const auto from = [&](int c) { return routed_.in(c); };
        const auto to = [&](int c) {
            return Scatter{tile_.x.row(0), tile_.x.stride(), token_.data() + c, weight_.data() + c};
        };
        const In* in = shares() ? tile_.inputs(in_, shared_) : nullptr;
        tile_.share([&](Member& me, int part) {
            each_expert(me, part, l.expert_down, l.expert_gate_up, from, to);
            if (in) product(l.down, in, tile_.count, Add{tile_.x.row(0), tile_.x.stride()}, part, tile_.size);
        });
    }

    // The product of each chosen expert's `weights` with its copies: from(copy), to(the first copy). The weights
    // that are read after the last are of `later`.
    template <class From, class To>
    void each_expert(Member& me, int part, const std::vector<Matrix>& weights, const std::vector<Matrix>& later,
                     const From& from, const To& to) {
        const auto begin = [&](const Matrix& w) { return w.at(w.first(part, tile_.size)); };
        const int count = tile_.model->s.experts, first = next_of(0);
        for (int x = first, next; x < count; x = next) {
            next = next_of(x + 1);
            const int at = places_[x], n = places_[x + 1] - at;
            me.in.resize(n);
            for (int j = 0; j < n; j++) me.in[j] = from(at + j);
            const char* then = begin(next < count ? weights[next] : later[first]);
            product(weights[x], me.in.data(), n, to(at), part, tile_.size, then);
        }
    }

    // The first expert from x on that was chosen.
    int next_of(int x) const {
        while (x < tile_.model->s.experts && places_[x] == places_[x + 1]) x++;
        return x;
    }

    // Copies in the order of experts, and of rows within one: by row and weight, and where each expert's begin.
    void sort() {
        const int experts = tile_.model->s.experts, each = tile_.model->s.chosen, copies = tile_.count * each;
        places_.assign(experts + 1, 0), token_.resize(copies), weight_.resize(copies);
        for (int c = 0; c < copies; c++) places_[chosen_[c]]++;
        for (int x = 0, before = 0; x <= experts; x++) before += std::exchange(places_[x], before);
        for (int c = 0; c < copies; c++) {
            const int at = places_[chosen_[c]]++;
            token_[at] = c / each, weight_[at] = share_[c];
        }
        for (int x = experts; x > 0; x--) places_[x] = places_[x - 1];
        places_[0] = 0;
    }

    // Scores choose groups and experts, with a bias where there is one, and without it they weigh (V3 report, eq. 12-16).
    void route(Member& me, const Layer& l, int i) {
        const Shape& s = tile_.model->s;
        float* scores = affinity_.row(i);
        if (s.sigmoid) for (int x = 0; x < padded(s.experts); x += LANES) store(scores + x, sigmoid(load(scores + x)));
        else softmax(scores, s.experts);
        std::vector<float>& choice = me.choice;
        choice.resize(s.experts);
        for (int x = 0; x < s.experts; x++) choice[x] = scores[x] + (s.sigmoid ? l.router_bias[x] : 0);
        if (s.kept_groups < s.groups) keep_groups(me);
        float total = 0;
        int* chosen = chosen_.data() + i * s.chosen;
        for (int k = 0; k < s.chosen; k++) {
            chosen[k] = best(choice);
            choice[chosen[k]] = -std::numeric_limits<float>::infinity();
            total += scores[chosen[k]];
        }
        const float scale = s.routed_scale / (s.normalise ? total + 1e-20f : 1.0f);
        for (int k = 0; k < s.chosen; k++) share_[i * s.chosen + k] = scores[chosen[k]] * scale;
    }

    // -inf outside the groups whose best one or two experts score highest together.
    void keep_groups(Member& me) {
        const Shape& s = tile_.model->s;
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

    Tile& tile_;
    Rows routed_, shared_, affinity_;
    std::vector<In> in_;
    std::vector<int> chosen_;          // by row: its experts
    std::vector<float> share_;         // how much each counts
    std::vector<int> token_, places_;  // by copy: its row; by expert: where its copies begin
    std::vector<float> weight_;        // by copy
};

}  // namespace raison
