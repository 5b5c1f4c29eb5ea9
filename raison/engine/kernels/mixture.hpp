// Routed experts: each row's few, and their products over the rows that chose them.
#pragma once

#include <limits>

#include "scores.hpp"
#include "tile.hpp"

namespace raison {

class Mixture {
  public:
    explicit Mixture(Tile& tile) : tile_(tile) {}

    void prepare(const Model& model) {
        const Shape& s = model.s;
        routed_.fit(TILE * (s.chosen > 0 ? s.chosen : 1), s.expert_inner, model.rounds());
        affinity_.fit(TILE, s.experts);
    }

    // Copies of rows stand expert after expert; every thread computes its part of each product.
    void run(const Layer& l) {
        tile_.project(l.router, tile_.normed, Store{affinity_.row(0), affinity_.stride()});
        send(Tile::mine(), l);
        each_expert([&](Member& me, int part, int x, int first, int n) {
            for (int j = 0; j < n; j++) me.in[j] = tile_.normed.in(of_expert_[x][j].row);
            const Gated to{routed_.row(first), routed_.stride()};
            product(l.expert_gate_up[x], me.in.data(), n, to, part, tile_.size);
        });
        if (tile_.rounds()) {
            tile_.share([&](Member&, int part) {
                for (int c = part; c < places_.back(); c += tile_.size) routed_.round(c, tile_.model->s.expert_inner);
            });
        }
        each_expert([&](Member& me, int part, int x, int first, int n) {
            for (int j = 0; j < n; j++) {
                me.in[j] = routed_.in(first + j);
                me.token[j] = of_expert_[x][j].row, me.weight[j] = of_expert_[x][j].weight;
            }
            const Scatter to{tile_.x.row(0), tile_.x.stride(), me.token.data(), me.weight.data()};
            product(l.expert_down[x], me.in.data(), n, to, part, tile_.size);
        });
    }

  private:
    struct Copy {
        int row;
        float weight;
    };

    template <class Work>
    void each_expert(const Work& work) {
        tile_.share([&](Member& me, int part) {
            for (int x = 0; x < tile_.model->s.experts; x++) {
                const int n = (int)of_expert_[x].size();
                if (n == 0) continue;
                me.in.resize(n), me.token.resize(n), me.weight.resize(n);
                work(me, part, x, places_[x], n);
            }
        });
    }

    void send(Member& me, const Layer& l) {
        of_expert_.assign(tile_.model->s.experts, {});
        for (int i = 0; i < tile_.count; i++) route(me, l, i);
        places_.assign(1, 0);
        for (const std::vector<Copy>& copies : of_expert_) places_.push_back(places_.back() + (int)copies.size());
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
    Rows routed_, affinity_;
    std::vector<std::vector<Copy>> of_expert_;
    std::vector<int> places_;
};

}  // namespace raison
