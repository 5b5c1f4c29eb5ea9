// The running batch: the columns of engine/slots.py, which never move, and what a drawn token does to them.
#pragma once

#include "sample.hpp"

namespace raison {

constexpr int64_t SHORTEST_MATCH = 2, LONGEST_MATCH = 4;  // tokens that must have stood before for a guess

enum State : int64_t { GOING, STOP, LENGTH, SHORT };  // as in engine/slots.py; SHORT: lacks a page

// One entry a slot; the tokens and log-probabilities of a slot stand in a line of their own.
struct Batch {
    int64_t* tokens;
    float* logprobs;
    const int64_t *pages, *prompt_length, *budget, *answer_limit, *max_tokens;
    int64_t *length, *computed, *drafts, *unfed, *followed, *closed_at;
    const float* temperature;
    const Limits* limits;
    const int64_t *min_tokens, *min_thinking, *bias_count;
    const int64_t* const* bias_ids;
    const float* const* bias_values;
    const uint64_t* key;
    double* first_token;
    uint8_t* forced;
    const uint8_t* endless;
    const int64_t* references;  // by page: how many hold it
    const int64_t* endings;     // what closes the thinking, and then what ends the text
    int64_t stride, stop_count;

    int64_t* known(int64_t slot) const { return tokens + slot * stride; }
    int64_t generated(int64_t slot) const { return length[slot] - prompt_length[slot]; }
    int64_t left(int64_t slot) const { return max_tokens[slot] - generated(slot); }
    bool ends(int64_t slot, int64_t token) const {
        const int64_t* stop = endings + 1 + stop_count;
        return !endless[slot] && std::find(endings + 1, stop, token) != stop;
    }
    bool closes(int64_t token) const { return token == *endings; }

    // How the token that is `ahead` places behind what is known is drawn (Drawing in engine/drawing.py).
    Ask ask(int64_t slot, int64_t ahead) const {
        const int64_t made = generated(slot) + ahead;
        const bool open = closed_at[slot] < 0 && made < min_thinking[slot];
        Ask found{temperature[slot], uniform(slot, ahead), limits[slot], {}};
        found.biases = {bias_ids[slot], bias_values[slot], bias_count[slot], nullptr, 0};
        if (open) found.biases.banned = endings, found.biases.bans = stop_count + 1;
        else if (made < min_tokens[slot]) found.biases.banned = endings + 1, found.biases.bans = stop_count;
        return found;
    }

    // The noise of the token that is `ahead` places behind what is known: splitmix64 (engine/sampler.py).
    double uniform(int64_t slot, int64_t ahead) const {
        uint64_t z = key[slot] + (uint64_t)(generated(slot) + ahead + 1) * 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }

    // Guesses that there is room for, in tokens and pages (Scheduler.reserve).
    int64_t room(int64_t slot, int64_t wanted, int64_t page_size) const {
        const int64_t places = pages[slot] * page_size - 1 - computed[slot];
        return std::max<int64_t>(0, std::min({wanted, left(slot) - 1, places}));
    }

    // Takes the tokens that were drawn, of which the first `agreed` are what was guessed; how many it took.
    int64_t append(int64_t slot, int64_t* drawn, float* of_drawn, int64_t agreed, double now) {
        if (generated(slot) == 0) first_token[slot] = now;
        if (closed_at[slot] < 0 && generated(slot) >= budget[slot]) {
            drawn[0] = *endings, of_drawn[0] = 0;
            forced[slot] = 1;
        }
        const int64_t count = reach(slot, drawn, agreed);
        std::copy_n(drawn, count, known(slot) + length[slot]);
        std::copy_n(of_drawn, count, logprobs + slot * stride + length[slot]);
        length[slot] += count, computed[slot] += count, drafts[slot] = 0;
        followed[slot] = std::min(followed[slot], length[slot] - 1);
        if (closed_at[slot] < 0 && closes(drawn[count - 1])) closed_at[slot] = length[slot];
        return count;
    }

    // What the last token brought.
    State state(int64_t slot) const {
        if (ends(slot, known(slot)[length[slot] - 1])) return STOP;
        const int64_t closed = closed_at[slot];
        return left(slot) <= 0 || (closed >= 0 && length[slot] - closed >= answer_limit[slot]) ? LENGTH : GOING;
    }

    // Where the longest run of last tokens stood before, for the last time: the index of what followed, else the length
    // (engine/speculate.py, continuation).
    int64_t continuation(int64_t slot) const {
        const int64_t *of_slot = known(slot), end = length[slot];
        int64_t longest = SHORTEST_MATCH - 1, found = end;
        for (int64_t at = end - 1; at > longest && longest < LONGEST_MATCH; at--) {
            int64_t size = 0;
            while (size < std::min(at, LONGEST_MATCH) && of_slot[at - 1 - size] == of_slot[end - 1 - size]) size++;
            if (size > longest) longest = size, found = at;
        }
        return found;
    }

  private:
    // One more than were guessed right, but none beyond a limit, or beyond what ends or closes (Slots.reach).
    int64_t reach(int64_t slot, const int64_t* drawn, int64_t agreed) const {
        const int64_t closed = closed_at[slot];
        const int64_t limit = closed < 0 ? budget[slot] - generated(slot) : answer_limit[slot] + closed - length[slot];
        const int64_t most = std::min(agreed + 1, std::max<int64_t>(1, std::min(limit, left(slot))));
        for (int64_t k = 0; k < most; k++)
            if (closes(drawn[k]) || ends(slot, drawn[k])) return k + 1;
        return most;
    }
};

}  // namespace raison
