// Attention of a tile's rows over the cache: rows that share their first tokens read them together.
//
// Samples of one prompt, or a prompt's own rows, form groups. What all rows of a group see is read a chunk at a time, for
// every row while the chunk is in the nearest cache; then each row reads its own.
#pragma once

#include "scores.hpp"
#include "tile.hpp"

namespace raison {

constexpr int CHUNK_KEYS = 64;    // keys that all rows of a group read before the next ones
constexpr int GROUP_ROWS = 16;    // rows of a group at most
constexpr int LEAST_SHARED = 32;  // tokens that make a group worth its while

// Rows [first, first + rows) of the tile that see the same first `shared` tokens.
struct RowGroup {
    int first, rows, shared;
};

// What a head reads of every cached token: the part that is its key, how much of which part is its value, and whether keys
// stand in columns.
struct Reading {
    int key, value, value_width;
    bool columns;
};

// Where the first head's query and result of the tile's first row stand, and how far rows and heads are apart.
struct Heads {
    const float* q;
    int64_t q_row, q_head;
    float* out;
    int64_t out_row, out_head;
};

class Attention {
  public:
    explicit Attention(Tile& tile) : tile_(tile) {}

    // Rows beside each other that share enough: at least half of what they might, and not too little. No thread is to be
    // without a group for want of rows.
    void find_groups(const Layout& layout) {
        layout_ = layout;
        groups_.clear();
        const int most = std::min(GROUP_ROWS, (tile_.count + tile_.size - 1) / tile_.size);
        for (int i = 0; i < tile_.count;) {
            RowGroup group{i, 1, tile_.length(i)};
            for (int j = i + 1; j < tile_.count && group.rows < most; j++) {
                const int both = std::min(group.shared, shared(i, j));
                if (both < LEAST_SHARED || both * 2 < group.shared) break;
                group.shared = both;
                group.rows++;
            }
            if (group.rows == 1) group.shared = 0;
            groups_.push_back(group);
            i += group.rows;
        }
    }

    // Where row i's token keeps a part of its line, or the first number of a column.
    template <class Number>
    Own<Number> own(Number* cache, int i, int part, bool column = false) const {
        const int64_t place = tile_.place(i), page = tile_.pages[i][place / layout_.page_size];
        return layout_.own(cache + page * layout_.page<Number>(), part, place % layout_.page_size, column);
    }

    // work(me, group, item): groups are shared out; where there are fewer than two a thread, their items are.
    template <class Work>
    void each_head(int items, const Work& work) {
        const int groups = (int)groups_.size(), units = groups * items;
        tile_.share(std::min(units, tile_.size), [&](Member& me, int part) {
            if (groups >= 2 * tile_.size) {
                for (int g = part; g < groups; g += tile_.size)
                    for (int item = 0; item < items; item++) work(me, groups_[g], item);
            } else {
                for (int unit = part; unit < units; unit += tile_.size) work(me, groups_[unit / items], unit % items);
            }
        });
    }

    template <class Number>
    void attend(Member& me, const Number* cache, const RowGroup& group, int heads, const Reading& r, const Heads& at) {
        int longest = 0;
        for (int i = 0; i < group.rows; i++) longest = std::max(longest, tile_.length(group.first + i));
        me.scores.fit(group.rows * heads, longest + LANES);
        const int together = std::max(1, (r.columns ? QUERIES : HEADS) / heads);
        each_part(group, together, [&](int i, int rows, int from, int to) {
            score(part(cache, group.first + i, r.key), r.columns, from, to, queries(me, group, i, rows, heads, at));
        });
        for (int i = 0; i < group.rows; i++)
            for (int h = 0; h < heads; h++) softmax(me.scores.row(i * heads + h), tile_.length(group.first + i));
        each_part(group, together, [&](int i, int rows, int from, int to) {
            const auto values = part(cache, group.first + i, r.value);
            const Queries of = queries(me, group, i, rows, heads, at);
            by_count<QUERIES>(of.count, [&]<int N>() { gather<N>(values, r.value_width, from, to, of); });
        });
    }

  private:
    // How many tokens two rows both see, in whole pages or to where the shorter ends.
    int shared(int a, int b) const {
        const int size = layout_.page_size, shorter = std::min(tile_.length(a), tile_.length(b));
        int t = 0;
        while (t < shorter && tile_.pages[a][t / size] == tile_.pages[b][t / size]) t += size;
        return std::min(t, shorter);
    }

    template <class Number>
    Part<Number> part(const Number* cache, int i, int index) const {
        return {cache, tile_.pages[i], layout_, index};
    }

    // Those of all heads of some rows of the group.
    static Queries queries(Member& me, const RowGroup& group, int first, int rows, int heads, const Heads& at) {
        Queries found;
        for (int i = first; i < first + rows; i++)
            for (int h = 0; h < heads; h++) {
                const int64_t row = group.first + i;
                found.q[found.count] = at.q + row * at.q_row + h * at.q_head;
                found.out[found.count] = at.out + row * at.out_row + h * at.out_head;
                found.scores[found.count++] = me.scores.row(i * heads + h);
            }
        return found;
    }

    template <class Number>
    static void score(const Part<Number>& keys, bool columns, int from, int to, const Queries& of) {
        if (!columns) by_count<HEADS>(of.count, [&]<int N>() { score_lines<N>(keys, from, to, of); });
        else if (keys.layout.page_size % LANES) score_pieces(keys, from, to, of);
        else by_count<QUERIES>(of.count, [&]<int N>() { score_columns<N>(keys, from, to, of); });
    }

    // work<count>(), of a count of up to MOST.
    template <int MOST, class Work>
    static void by_count(int count, const Work& work) {
        if constexpr (MOST > 1)
            if (count < MOST) return by_count<MOST - 1>(count, work);
        work.template operator()<MOST>();
    }

    // work(row of the group, rows, from, to): what all see, a chunk at a time for `most` rows after the other; then each
    // row's own.
    template <class Work>
    void each_part(const RowGroup& group, int most, const Work& work) {
        for (int from = 0; from < group.shared; from += CHUNK_KEYS)
            for (int i = 0; i < group.rows; i += most)
                work(i, std::min(most, group.rows - i), from, std::min(group.shared, from + CHUNK_KEYS));
        for (int i = 0; i < group.rows; i++) {
            const int stop = tile_.length(group.first + i);
            if (group.shared < stop) work(i, 1, group.shared, stop);
        }
    }

    Tile& tile_;
    Layout layout_{};
    std::vector<RowGroup> groups_;
};

}  // namespace raison
