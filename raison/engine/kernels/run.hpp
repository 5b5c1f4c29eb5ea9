// A whole step on as many threads as it is worth.
#pragma once

#include "walk.hpp"

namespace raison {

constexpr size_t TEAM_BYTES = 8u << 20;  // weights beyond a thread's own cache are shared out rather than read by each

// Consecutive segments of about the same number of rows: as many units as keep all threads busy alike.
inline std::vector<int> units_of(const Step& step) {
    const int64_t rows = step.rows, threads = step.threads;
    const int64_t count = threads * ((rows + threads * TILE - 1) / (threads * TILE));
    std::vector<int> bounds{0};
    for (int segment = 1; segment <= step.segments; segment++)
        if (segment == step.segments || step.starts[segment] * count >= rows * (int64_t)bounds.size())
            bounds.push_back(segment);
    return bounds;
}

// What a thread computes in is kept between steps.
inline Walk& own_walk() {
    static thread_local Walk walk;
    return walk;
}

inline void run(const Model& model, const Step& step) {
    if (step.threads > 1 && model.bytes() > TEAM_BYTES)
        return own_walk().run(model, step, 0, step.segments, step.threads);
    const std::vector<int> bounds = units_of(step);
    Pool::shared().run(step.threads, (int)bounds.size() - 1, [&](int unit) {
        own_walk().run(model, step, bounds[unit], bounds[unit + 1], 1);
    });
}

}  // namespace raison
