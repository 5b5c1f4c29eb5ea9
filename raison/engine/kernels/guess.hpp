// Guessing ahead with an MTP module, from its own states, or with a draft model, which has none: pass after pass, without a
// way back to Python in between.
//
// The first pass takes all rows that the model has moved on by, the others one row for each stretch. A guess is drawn with
// the noise of the place it is for (engine/speculate.py says why).
#pragma once

#include "run.hpp"
#include "sample.hpp"

namespace raison {

struct Guess {
    Step first;                 // `outputs` number the stretches; `states` has room for every row of a module's
    int64_t width;              // of a state; 0 for a draft model
    const int64_t* most;        // [stretches]: guesses wanted
    const float* temperatures;  // [stretches]
    const Limits* limits;       // [stretches]
    const double* uniforms;     // [deepest, stretches]
    int64_t* tokens;            // [deepest, stretches], out
};

class Guesser {
  public:
    void run(const Model& model, const Guess& g) {
        const int stretches = g.first.segments;
        raison::run(model, g.first);
        stretch_.clear(), line_.clear(), row_.clear();
        for (int i = 0; i < stretches; i++) {
            if (g.most[i] < 1) continue;
            stretch_.push_back(i), line_.push_back(i), row_.push_back(g.first.starts[i + 1] - 1);
        }
        before_.assign(g.first.states, g.first.states + g.first.rows * g.width);
        for (int64_t ahead = 0; !stretch_.empty(); ahead++) {
            draw(model, g, ahead);
            if (!keep(g, ahead)) return;
            pass(model, g, ahead);
        }
    }

  private:
    void draw(const Model& model, const Guess& g, int64_t ahead) {
        const int count = (int)stretch_.size();
        temperature_.resize(count), uniform_.resize(count), limits_.resize(count), logprob_.resize(count);
        token_.assign(count, 0);  // stays where the logits are not finite
        for (int i = 0; i < count; i++) {
            temperature_[i] = g.temperatures[stretch_[i]];
            uniform_[i] = g.uniforms[ahead * g.first.segments + stretch_[i]];
            limits_[i] = g.limits[stretch_[i]];
        }
        const Draw order{count, model.s.vocabulary, g.first.threads, 0, g.first.logits, g.first.logits_stride,
                         line_.data(), temperature_.data(), uniform_.data(), limits_.data(), nullptr, nullptr, nullptr,
                         token_.data(), logprob_.data()};
        raison::draw(order);
        for (int i = 0; i < count; i++) g.tokens[ahead * g.first.segments + stretch_[i]] = token_[i];
    }

    // Stretches that want one more guess, with the state they go on from at the front; false when there are none.
    bool keep(const Guess& g, int64_t ahead) {
        int count = 0;
        next_.clear(), id_.clear();
        for (size_t i = 0; i < stretch_.size(); i++) {
            if (g.most[stretch_[i]] <= ahead + 1) continue;
            const float* state = before_.data() + row_[i] * g.width;
            next_.insert(next_.end(), state, state + g.width);
            id_.push_back(token_[i]);
            stretch_[count] = stretch_[i], line_[count] = count, row_[count] = count;
            count++;
        }
        stretch_.resize(count), line_.resize(count), row_.resize(count);
        before_.swap(next_);
        return count > 0;
    }

    void pass(const Model& model, const Guess& g, int64_t ahead) {
        const int count = (int)stretch_.size();
        place_.resize(count), start_.resize(count + 1), slot_.resize(count);
        for (int i = 0; i < count; i++) {
            place_[i] = g.first.positions[g.first.starts[stretch_[i] + 1] - 1] + ahead + 1;
            slot_[i] = g.first.slots[stretch_[i]];
        }
        for (int i = 0; i <= count; i++) start_[i] = i;
        next_.resize(count * g.width);
        Step step = g.first;
        step.rows = step.segments = count;
        step.ids = id_.data(), step.positions = place_.data(), step.starts = start_.data(), step.slots = slot_.data();
        step.outputs = line_.data(), step.before = before_.data(), step.states = g.width ? next_.data() : nullptr;
        raison::run(model, step);
        before_.swap(next_);
    }

    std::vector<int64_t> stretch_, line_, row_, id_, place_, start_, slot_, token_;
    std::vector<float> temperature_, logprob_, before_, next_;
    std::vector<double> uniform_;
    std::vector<Limits> limits_;
};

inline void guess(const Model& model, const Guess& g) {
    static thread_local Guesser guesser;
    guesser.run(model, g);
}

}  // namespace raison
