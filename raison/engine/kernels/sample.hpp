// From logits to a token: the cumulative distribution in double, looked up at one uniform number (engine/sampler.py).
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "pool.hpp"
#include "simd.hpp"

namespace raison {

struct Draw {
    int32_t rows, vocabulary, threads, unused;
    const float* logits;  // [rows, stride]; what stands beyond the vocabulary is ignored
    int64_t stride;
    const int64_t* lines;       // [rows]: which line of `logits` each row draws from
    const float* temperatures;  // [rows]; 0 takes the likeliest
    const double* uniforms;     // [rows], in [0, 1)
    int64_t* tokens;            // [rows], out
    float* logprobs;            // [rows], out: of the whole distribution at the temperature
};

constexpr int CHUNK = 4 * LANES;  // probabilities whose sum is kept for the search

class Drawer {
  public:
    // False where the logits are not finite.
    bool draw(const Draw& d, int row) {
        const float* logits = d.logits + d.lines[row] * d.stride;
        const float temperature = d.temperatures[row];
        exponentials(logits, d.vocabulary, temperature > 0 ? 1.0f / temperature : 1.0f);
        if (!std::isfinite(total_) || total_ <= 0) return false;
        const int token = temperature > 0 ? find(d.uniforms[row]) : likeliest_;
        d.tokens[row] = token;
        d.logprobs[row] = (float)(std::log((double)weights_[token]) - std::log(total_));
        return true;
    }

  private:
    // e^((x - max) / temperature) in `weights_`, zeros to the end of the last chunk; sums of chunks.
    void exponentials(const float* logits, int n, float inverse) {
        const float top = highest(logits, n);
        likeliest_ = (int)(std::find(logits, logits + n, top) - logits);
        weights_.resize((n + CHUNK - 1) / CHUNK * CHUNK);
        sums_.clear();
        total_ = 0;
        for (int i = 0; i < (int)weights_.size(); i += CHUNK) {
            Vec part{};
            for (int j = i; j < i + CHUNK; j += LANES) {
                const Vec e = exponential((vector_at(logits, j, n) - top) * inverse);
                store(&weights_[j], e);
                part += e;
            }
            sums_.push_back(sum(part));
            total_ += sums_.back();
        }
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

    // Beyond the end it is so low that it weighs nothing.
    static Vec vector_at(const float* logits, int at, int n) {
        if (at + LANES <= n) return load(logits + at);
        Vec v = all(-1e30f);
        for (int i = at; i < n; i++) v[i - at] = logits[i];
        return v;
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

    std::vector<float> weights_;
    std::vector<double> sums_;
    double total_ = 0;
    int likeliest_ = 0;
};

// How many rows could not be drawn.
inline int draw(const Draw& d) {
    std::atomic<int> failed{0};
    const int units = d.rows < 2 * d.threads ? 1 : d.threads;
    Pool::shared().run(d.threads, units, [&](int unit) {
        static thread_local Drawer drawer;
        for (int row = unit * d.rows / units; row < (unit + 1) * d.rows / units; row++)
            if (!drawer.draw(d, row)) failed++;
    });
    return failed;
}

}  // namespace raison
