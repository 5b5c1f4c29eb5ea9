// Turns of decoding over the batch's own arrays, without a way back to Python: compute, draw, append, guess.
//
// For rows that lack one token each, and whose tokens no grammar restricts. The engine does the same verb by verb for all
// others (Engine._step), and is the reference that tests hold this against.
#pragma once

#include <chrono>

#include "batch.hpp"
#include "guess.hpp"

namespace raison {

struct Turns {
    Batch batch;
    Step step, module;     // where the cache and its pages are; rows are filled in here
    int64_t width, gap;    // of a state; tokens that a module may have missed of a row, or a draft model reads at once
    const int64_t* slots;  // [rows]
    int64_t rows, most;    // turns at most
    int64_t depth;         // guesses a row and turn at most
    int64_t strict;        // whether guesses must have pages, or are made where they have
    double now, patience;  // the clock's seconds, and after how many of them no other turn begins
    int64_t *counts, *states;  // [rows], out: tokens taken, and what the last of them brought; before the first, who is SHORT
    int64_t sampled, guessed;  // out
};

constexpr int UNREADY = 0, NOT_FINITE = -1;

// Rows of a step that is put together stretch by stretch.
struct Gathered {
    std::vector<int64_t> ids, places, starts, slots, outputs;

    void clear() { ids.clear(), places.clear(), starts.assign(1, 0), slots.clear(), outputs.clear(); }
    int lines() const { return (int)ids.size(); }
    Step step(Step where) const {
        where.rows = lines(), where.segments = (int32_t)slots.size();
        where.ids = ids.data(), where.positions = places.data(), where.starts = starts.data();
        where.slots = slots.data(), where.outputs = outputs.data();
        return where;
    }
};

class Taker {
  public:
    // How many turns were taken, UNREADY before the first, or NOT_FINITE.
    int run(const Model& model, const Model* module, Turns& turns) {
        t_ = &turns, b_ = &turns.batch, module_ = module;
        if (!ready()) return mark_short(), UNREADY;
        const auto begun = std::chrono::steady_clock::now();
        std::fill_n(turns.counts, turns.rows, 0);
        turns.sampled = turns.guessed = 0;
        for (int taken = 1;; taken++) {
            compute(model);
            if (!draw(model)) return NOT_FINITE;
            const bool going = append();
            if (module_) module_->s.joins ? feed() : follow();
            else if (turns.depth) look_up();
            const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begun;
            if (!going || taken == turns.most || passed.count() > turns.patience || !ready()) return taken;
        }
    }

  private:
    bool feeds() const { return module_ && module_->s.joins && t_->depth > 0; }

    // Whether a row has its next place for itself and, where that is asked for, those of the guesses to come.
    bool has_pages(int64_t slot) const {
        const int64_t size = t_->step.page_size, place = b_->computed[slot], page = place / size;
        if (b_->length[slot] != place + 1 || page >= b_->pages[slot]) return false;
        if (b_->references[t_->step.blocks[slot * t_->step.blocks_stride + page]] != 1) return false;
        const int64_t ahead = t_->strict && t_->depth ? b_->drafts[slot] + 1 + t_->depth : 0;
        return (place + std::min(ahead, b_->left(slot) - 1)) / size < b_->pages[slot];
    }

    bool ready() const {
        return std::all_of(t_->slots, t_->slots + t_->rows, [this](int64_t slot) { return has_pages(slot); });
    }

    void mark_short() const {
        for (int64_t i = 0; i < t_->rows; i++) t_->states[i] = has_pages(t_->slots[i]) ? GOING : SHORT;
    }

    // Every row's last token and its guesses, a line of logits for each.
    void compute(const Model& model) {
        own_.clear();
        for (int64_t i = 0; i < t_->rows; i++) {
            const int64_t slot = t_->slots[i], first = b_->computed[slot];
            for (int64_t at = first; at <= first + b_->drafts[slot]; at++) {
                own_.outputs.push_back(own_.lines());
                own_.ids.push_back(b_->known(slot)[at]), own_.places.push_back(at);
            }
            own_.starts.push_back(own_.lines()), own_.slots.push_back(slot);
        }
        Step step = logits(own_.step(t_->step), model, own_.lines(), logits_);
        if (feeds()) states_.resize(own_.lines() * t_->width), step.states = states_.data();
        raison::run(model, step);
        stride_ = step.logits_stride;
    }

    static Step logits(Step step, const Model& model, int lines, std::vector<float>& room) {
        step.logits_stride = padded(model.s.vocabulary);
        if (room.size() < (size_t)lines * step.logits_stride) room.resize(lines * step.logits_stride);
        step.logits = room.data();
        return step;
    }

    // A token for each line, with the noise of its place, as far as the guesses agree. False where logits are not finite.
    bool draw(const Model& model) {
        const int lines = own_.lines(), threads = t_->step.threads, units = lines < 2 * threads ? 1 : threads;
        token_.resize(lines), logprob_.resize(lines), agreed_.assign(t_->rows, 0);
        std::atomic<bool> finite{true};
        Pool::shared().run(threads, units, [&](int unit) {
            static thread_local Drawer drawer;
            for (int64_t i = unit * t_->rows / units; i < (unit + 1) * t_->rows / units; i++)
                if (!draw_row(drawer, model.s.vocabulary, i)) finite = false;
        });
        return finite;
    }

    bool draw_row(Drawer& drawer, int vocabulary, int64_t i) {
        const int64_t slot = t_->slots[i], stop = own_.starts[i + 1];
        for (int64_t line = own_.starts[i]; line < stop; line++) {
            const float* logits = logits_.data() + line * stride_;
            if (!drawer.draw(logits, vocabulary, b_->ask(slot, agreed_[i]), token_[line], logprob_[line])) return false;
            if (line + 1 == stop || token_[line] != own_.ids[line + 1]) break;
            agreed_[i]++;
        }
        return true;
    }

    // Whether all rows go on.
    bool append() {
        bool going = true;
        taken_.resize(t_->rows);
        for (int64_t i = 0; i < t_->rows; i++) {
            const int64_t slot = t_->slots[i], first = own_.starts[i];
            t_->guessed += b_->drafts[slot];
            taken_[i] = b_->append(slot, &token_[first], &logprob_[first], agreed_[i], t_->now);
            t_->states[i] = b_->state(slot);
            t_->counts[i] += taken_[i], t_->sampled += taken_[i];
            going &= t_->states[i] == GOING;
        }
        return going;
    }

    void look_up() const {
        for (int64_t i = 0; i < t_->rows; i++) {
            const int64_t slot = t_->slots[i], length = b_->length[slot];
            if (t_->states[i] != GOING) continue;
            int64_t* known = b_->known(slot);
            const int64_t from = b_->continuation(slot);
            b_->drafts[slot] = std::min(b_->room(slot, t_->depth, t_->step.page_size), length - from);
            std::copy_n(known + from, b_->drafts[slot], known + length);
        }
    }

    // The module computes the tokens that the model has moved on by, each with the state before it, and guesses from there.
    void feed() {
        fed_.clear(), most_.clear(), before_.clear(), temperature_.clear(), limits_.clear();
        for (int64_t i = 0; i < t_->rows; i++) {
            const int64_t slot = t_->slots[i];
            if (t_->depth && t_->states[i] == GOING && b_->unfed[slot] <= t_->gap) add(i, slot);
            else b_->unfed[slot] += taken_[i];
        }
        if (!most_.empty()) guess(t_->width);
    }

    // A draft model reads what it has not, and guesses for rows of which it has read all (engine/drafter.py).
    void follow() {
        fed_.clear(), most_.clear(), temperature_.clear(), limits_.clear();
        for (int64_t i = 0; i < t_->rows; i++) {
            const int64_t slot = t_->slots[i], room = b_->room(slot, t_->depth, t_->step.page_size);
            if (t_->states[i] == GOING && room > 0) read(slot, room);
        }
        if (!most_.empty()) guess(0);
    }

    void read(int64_t slot, int64_t room) {
        const int64_t from = b_->followed[slot], length = b_->length[slot], stop = std::min(length, from + t_->gap);
        for (int64_t place = from; place < stop; place++) {
            fed_.ids.push_back(std::min<int64_t>(b_->known(slot)[place], module_->s.vocabulary - 1));
            fed_.places.push_back(place);
            fed_.outputs.push_back(place + 1 < stop ? -1 : (int64_t)most_.size());
        }
        fed_.starts.push_back(fed_.lines()), fed_.slots.push_back(slot);
        most_.push_back(stop == length ? room : 0);
        temperature_.push_back(b_->temperature[slot]), limits_.push_back(b_->limits[slot]);
        b_->followed[slot] = stop + std::max<int64_t>(most_.back() - 1, 0);
    }

    void add(int64_t i, int64_t slot) {
        const int64_t first = own_.starts[i];
        for (int64_t k = 0; k < taken_[i]; k++) {
            const int64_t place = own_.places[first + k];
            fed_.ids.push_back(b_->known(slot)[place + 1]), fed_.places.push_back(place);
            fed_.outputs.push_back(k + 1 < taken_[i] ? -1 : (int64_t)most_.size());
        }
        fed_.starts.push_back(fed_.lines()), fed_.slots.push_back(slot);
        const float* states = states_.data() + first * t_->width;
        before_.insert(before_.end(), states, states + taken_[i] * t_->width);
        most_.push_back(b_->room(slot, t_->depth, t_->step.page_size));
        temperature_.push_back(b_->temperature[slot]), limits_.push_back(b_->limits[slot]);
    }

    void guess(int64_t width) {
        const size_t count = most_.size();
        noise_.resize(t_->depth * count), guess_.assign(t_->depth * count, 0);
        for (size_t k = 0; k < noise_.size(); k++) noise_[k] = b_->uniform(fed_.slots[k % count], k / count);
        Step first = logits(fed_.step(t_->module), *module_, (int)count, module_logits_);
        after_.resize(before_.size());
        if (width) first.before = before_.data(), first.states = after_.data();
        raison::guess(*module_, {first, width, most_.data(), temperature_.data(), limits_.data(), noise_.data(),
                                 guess_.data()});
        for (size_t i = 0; i < count; i++) {
            const int64_t slot = fed_.slots[i];
            for (int64_t k = 0; k < most_[i]; k++) b_->known(slot)[b_->length[slot] + k] = guess_[k * count + i];
            b_->drafts[slot] = most_[i];
        }
    }

    Turns* t_ = nullptr;
    Batch* b_ = nullptr;
    const Model* module_ = nullptr;
    Gathered own_, fed_;
    std::vector<float> logits_, module_logits_, states_, before_, after_, temperature_, logprob_;
    std::vector<Limits> limits_;
    std::vector<double> noise_;
    std::vector<int64_t> token_, agreed_, taken_, most_, guess_;
    int64_t stride_ = 0;
};

inline int turns(const Model& model, const Model* module, Turns& turns) {
    static thread_local Taker taker;
    return taker.run(model, module, turns);
}

}  // namespace raison
