// Which tokens top-k, top-p and min-p keep, without sorting the vocabulary (engine/sampler.py, `filtered`, is the twin).
//
// Tokens rank by logit, equal ones in the vocabulary's order. What may be kept is gathered by a bound on logits, and where it
// ends is found there by partition after partition (quickselect, Hoare 1961): by count for top-k, by weight for top-p. A flat
// distribution costs a few passes over the vocabulary, a usual one little more than the one that gathers.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "simd.hpp"

namespace raison {

// As LIMITS in engine/slots.py.
struct Limits {
    int64_t top_k = 0;  // 0 keeps all
    double top_p = 1, min_p = 0;
    bool any() const { return top_k > 0 || top_p < 1 || min_p > 0; }
};

// What is drawn from: the likeliest token has the weight 1, a weight is e^((logit - top) / temperature).
struct Weighed {
    const float *logits, *weights;
    int count;
    float top, temperature;
    double total;
};

// Beyond the end it is so low that it weighs nothing.
inline Vec vector_at(const float* values, int at, int n) {
    if (at + LANES <= n) return load(values + at);
    Vec v = all(-std::numeric_limits<float>::infinity());
    for (int i = at; i < n; i++) v[i - at] = values[i];
    return v;
}

class Filter {
  public:
    // The tokens that are kept, in the vocabulary's order. The likeliest always is.
    const std::vector<int>& keep(const Weighed& line, const Limits& limits) {
        line_ = line;
        const bool counted = limits.top_k > 0 && limits.top_k < line.count;
        if (counted) gather_first(limits.top_k);
        else if (limits.top_p < 1) gather_mass(limits.top_p * line.total);
        else gather(line.weights, (float)limits.min_p);
        if (counted) cut((double)limits.top_k, [](int) { return 1.0; });
        const auto weight = [this](int id) { return (double)line_.weights[id]; };
        if (limits.top_p < 1) cut(limits.top_p * (counted ? mass() : line.total), weight);
        std::erase_if(kept_, [&](int id) { return line_.weights[id] < limits.min_p; });
        return kept_;
    }

    // Of what was kept: the first token whose cumulative weight exceeds u * their total.
    int pick(double u) const {
        const double total = mass(), target = std::min(u * total, std::nextafter(total, 0.0));
        double before = 0;
        for (const int id : kept_)
            if ((before += line_.weights[id]) > target) return id;
        return kept_.back();
    }

  private:
    static constexpr int COLUMN = 64;            // logits of which only the highest counts
    static constexpr double FIRST = 8, STEP = 3;  // nats below the whole that tokens are gathered down to; 3,000th part
    static constexpr double DEEPEST = 90;         // where weights are 0

    double mass() const {
        double sum = 0;
        for (const int id : kept_) sum += line_.weights[id];
        return sum;
    }

    void gather(const float* values, float least) {
        kept_.clear();
        for (int i = 0; i < line_.count; i += LANES) {
            uint32_t found = at_least(vector_at(values, i, line_.count), all(least));
            if (i + LANES > line_.count) found &= (1u << (line_.count - i)) - 1;
            for (; found; found &= found - 1) kept_.push_back(i + std::countr_zero(found));
        }
    }

    // No fewer than the `count` likeliest: those from the highest of so many columns on are as many.
    void gather_first(int64_t count) {
        highest_.clear();
        for (int i = 0; i < line_.count; i += COLUMN * LANES) {
            Vec most = vector_at(line_.logits, i, line_.count);
            const int stop = std::min(line_.count, i + COLUMN * LANES);
            for (int j = i + LANES; j < stop; j += LANES) most = larger(most, vector_at(line_.logits, j, line_.count));
            highest_.resize(highest_.size() + LANES);
            store(&highest_[highest_.size() - LANES], most);
        }
        float least = -std::numeric_limits<float>::infinity();
        if (count <= (int64_t)highest_.size()) {
            std::nth_element(highest_.begin(), highest_.begin() + count - 1, highest_.end(), std::greater<float>());
            least = highest_[count - 1];
        }
        gather(line_.logits, least);
    }

    // The likeliest, as many as weigh so much together.
    void gather_mass(double limit) {
        for (double below = FIRST;; below += STEP) {
            const double least = line_.top + line_.temperature * (std::log(line_.total) - below);
            gather(line_.logits, below < DEEPEST ? (float)least : -std::numeric_limits<float>::infinity());
            if (below >= DEEPEST || mass() >= limit) return;
        }
    }

    // Keeps each token before which `measure` comes to less than the limit.
    template <class Measure>
    void cut(double limit, const Measure& measure) {
        const auto [least, equals] = edge(limit, measure);
        int64_t left = equals;
        const float* logits = line_.logits;
        std::erase_if(kept_, [&](int id) { return logits[id] < least || (logits[id] == least && left-- <= 0); });
    }

    struct Edge {
        float least;
        int64_t equals;  // how many of the tokens of just this logit are kept
    };

    template <class Measure>
    Edge edge(double limit, const Measure& measure) {
        among_ = kept_;
        for (double before = 0;;) {
            const float pivot = middle();
            above_.clear(), equal_.clear(), below_.clear();
            double over = 0;
            for (const int id : among_) {
                const float x = line_.logits[id];
                if (x > pivot) over += measure(id);
                (x > pivot ? above_ : x == pivot ? equal_ : below_).push_back(id);
            }
            if (before + over >= limit) {
                among_.swap(above_);
                continue;
            }
            before += over;
            int64_t equals = 0;
            for (const int id : equal_)
                if (before < limit) before += measure(id), equals++;
            if (before >= limit || below_.empty()) return {pivot, equals};
            among_.swap(below_);
        }
    }

    // The middle one of three logits.
    float middle() const {
        const float a = line_.logits[among_.front()], b = line_.logits[among_[among_.size() / 2]];
        const float c = line_.logits[among_.back()];
        return std::max(std::min(a, b), std::min(std::max(a, b), c));
    }

    Weighed line_{};
    std::vector<int> kept_, among_, above_, equal_, below_;
    std::vector<float> highest_;
};

}  // namespace raison
