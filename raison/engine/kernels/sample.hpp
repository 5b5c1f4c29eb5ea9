// From logits to a token: the cumulative distribution in double, looked up at one uniform number (engine/sampler.py).
#pragma once

#include "filters.hpp"
#include "pool.hpp"

namespace raison {

// What is added to the logits of some tokens, and which of them are never drawn, if there are such.
struct Biases {
    const int64_t* ids = nullptr;
    const float* values = nullptr;
    int64_t count = 0;
    const int64_t* banned = nullptr;
    int64_t bans = 0;
    bool any() const { return count + bans > 0; }
};

// How one token is drawn.
struct Ask {
    float temperature;  // 0 takes the likeliest
    double uniform;     // in [0, 1)
    Limits limits;
    Biases biases;
};

struct Draw {
    int32_t rows, vocabulary, threads, unused;
    const float* logits;  // [rows, stride]; what stands beyond the vocabulary is ignored
    int64_t stride;
    const int64_t* lines;  // [rows]: which line of `logits` each row draws from
    const float* temperatures;
    const double* uniforms;
    const Limits* limits;
    const int64_t *bias_starts, *bias_ids;  // [rows + 1]: where each row's biases begin, or null; [biases]
    const float* bias_values;
    int64_t* tokens;  // [rows], out
    float* logprobs;  // [rows], out: of the whole distribution at the temperature, without biases

    Ask ask(int row) const {
        Ask found{temperatures[row], uniforms[row], limits[row], {}};
        if (!bias_starts) return found;
        const int64_t first = bias_starts[row];
        found.biases.ids = bias_ids + first, found.biases.values = bias_values + first;
        found.biases.count = bias_starts[row + 1] - first;
        return found;
    }
};

constexpr int CHUNK = 4 * LANES;  // probabilities whose sum is kept for the search

class Drawer {
  public:
    // False where the logits are not finite.
    bool draw(const float* logits, int n, const Ask& ask, int64_t& token, float& logprob) {
        const float temperature = ask.temperature > 0 ? ask.temperature : 1.0f;
        if (!weigh(logits, n, temperature)) return false;
        const float top = top_;
        const double log_total = std::log(total_);
        const float* drawn_from = ask.biases.any() ? biased(logits, n, ask.biases) : logits;
        if (drawn_from != logits && !weigh(drawn_from, n, temperature)) return false;
        token = ask.temperature > 0 ? find(drawn_from, n, ask) : likeliest_;
        logprob = (float)((double)((logits[token] - top) * inverse(temperature)) - log_total);
        return true;
    }

  private:
    static float inverse(float temperature) {
        return std::clamp(1.0f / temperature, std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
    }

    const float* biased(const float* logits, int n, const Biases& biases) {
        biased_.assign(logits, logits + n);
        for (int64_t i = 0; i < biases.count; i++) biased_[biases.ids[i]] += biases.values[i];
        for (const int64_t *id = biases.banned, *stop = id + biases.bans; id < stop; id++)
            if (*id >= 0 && *id < n) biased_[*id] = -std::numeric_limits<float>::infinity();
        return biased_.data();
    }

    // e^((x - max) / temperature) in `weights_`, zeros to the end of the last chunk; sums of chunks. False where the
    // logits are not finite.
    bool weigh(const float* logits, int n, float temperature) {
        const float per_nat = inverse(temperature), top = highest(logits, n);
        likeliest_ = (int)(std::find(logits, logits + n, top) - logits);
        weights_.resize((n + CHUNK - 1) / CHUNK * CHUNK);
        sums_.clear();
        top_ = top, total_ = 0;
        for (int i = 0; i < (int)weights_.size(); i += CHUNK) {
            Vec part{};
            for (int j = i; j < i + CHUNK; j += LANES) {
                const Vec e = exponential((vector_at(logits, j, n) - top) * per_nat);
                store(&weights_[j], e);
                part += e;
            }
            sums_.push_back(sum(part));
            total_ += sums_.back();
        }
        return std::isfinite(total_) && total_ > 0;
    }

    static float highest(const float* logits, int n) {
        const int whole = n / LANES * LANES;
        float top = logits[0];
        if (whole) {
            Vec most = load(logits);
            for (int i = LANES; i < whole; i += LANES) most = larger(most, load(logits + i));
            top = largest(most);
        }
        for (int i = whole; i < n; i++) top = logits[i] > top ? logits[i] : top;
        return top;
    }

    int find(const float* logits, int n, const Ask& ask) {
        if (!ask.limits.any()) return find(ask.uniform);
        filter_.keep({logits, weights_.data(), n, top_, ask.temperature, total_}, ask.limits);
        return filter_.pick(ask.uniform);
    }

    // The first token whose cumulative weight exceeds u * total; a weight of 0 is never drawn.
    int find(double u) const {
        const double target = u * total_;
        double before = 0;
        size_t chunk = 0;
        while (chunk + 1 < sums_.size() && before + sums_[chunk] <= target) before += sums_[chunk++];
        int last = likeliest_;
        for (size_t i = chunk * CHUNK; i < weights_.size(); i++) {
            if (weights_[i] > 0) last = (int)i;
            before += weights_[i];
            if (before > target && weights_[i] > 0) return (int)i;
        }
        return last;
    }

    Filter filter_;
    std::vector<float> weights_, biased_;
    std::vector<double> sums_;
    double total_ = 0;
    float top_ = 0;
    int likeliest_ = 0;
};

// Rows that cannot be drawn stay as they are.
inline void draw(const Draw& d) {
    const int units = d.rows < 2 * d.threads ? 1 : d.threads;
    Pool::shared().run(d.threads, units, [&](int unit) {
        static thread_local Drawer drawer;
        for (int row = unit * d.rows / units; row < (unit + 1) * d.rows / units; row++) {
            const float* line = d.logits + d.lines[row] * d.stride;
            drawer.draw(line, d.vocabulary, d.ask(row), d.tokens[row], d.logprobs[row]);
        }
    });
}

}  // namespace raison
