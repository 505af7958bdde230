// Paged attention against float64 over ragged batches, and the promise that a row's bits don't depend on
// chunking, batch mates or prefix sharing.
#include <algorithm>
#include <numeric>

#include "../../kernels/cuda/launchers.h"
#include "harness.h"

namespace octavo::test {
namespace {

using namespace octavo::cuda;

constexpr int kPage = 16;
constexpr double kTolerance = 1e-3;

struct Shape {
  int numHeads, numKvHeads, headDim;
  int window = 0;
  float softcap = 0;
};

// Sequences in one paged cache. Queries, like keys, belong to (sequence, position), so that every chunking
// can be cut from the same data.
struct World {
  Shape shape;
  std::vector<int> lengths;  // positions that exist
  int maxBlocks;
  std::vector<int32_t> tables;
  std::vector<Half> pages;
  std::vector<std::vector<Half>> queries;  // [length][numHeads * headDim]

  // The first `shared` positions of all sequences are the same blocks.
  World(Shape s, std::vector<int> sequenceLengths, int shared = 0)
      : shape(s), lengths(std::move(sequenceLengths)) {
    const int longest = *std::max_element(lengths.begin(), lengths.end());
    maxBlocks = (longest + kPage - 1) / kPage + 1;
    const int numPages = static_cast<int>(lengths.size()) * maxBlocks + 2;
    std::vector<int32_t> order(numPages);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), generator());
    pages.assign(static_cast<size_t>(numPages) * 2 * shape.numKvHeads * kPage * shape.headDim, Half{0xFFFF});
    tables.assign(lengths.size() * maxBlocks,
                  0x7fffffff);  // a block that is never written: never read either
    for (size_t q = 0; q < lengths.size(); ++q) {
      for (int b = 0; b * kPage < lengths[q]; ++b) {
        const bool isShared = q > 0 && (b + 1) * kPage <= shared;
        tables[q * maxBlocks + b] = isShared ? tables[b] : order[q * maxBlocks + b];
        for (int i = 0; i < kPage && !isShared && b * kPage + i < lengths[q]; ++i) fill(q, b * kPage + i);
      }
      queries.push_back(randomHalves(static_cast<size_t>(lengths[q]) * shape.numHeads * shape.headDim));
    }
  }

  size_t at(size_t sequence, int position, int part, int kvHead) const {
    const int64_t page = tables[sequence * maxBlocks + position / kPage];
    return (((page * 2 + part) * shape.numKvHeads + kvHead) * kPage + position % kPage) *
           static_cast<size_t>(shape.headDim);
  }

  void fill(size_t sequence, int position) {
    for (int part = 0; part < 2; ++part) {
      for (int h = 0; h < shape.numKvHeads; ++h) {
        const auto values = randomHalves(shape.headDim);
        std::copy(values.begin(), values.end(),
                  pages.begin() + static_cast<std::ptrdiff_t>(at(sequence, position, part, h)));
      }
    }
  }

  // Garbage where a sliding window has passed.
  void forget(size_t sequence, int before) {
    for (int b = 0; (b + 1) * kPage <= before; ++b) tables[sequence * maxBlocks + b] = 0x7fffffff;
  }
};

// Tokens [begin, end) of a sequence in one step.
struct Chunk {
  int sequence, begin, end;
};

struct Step {
  std::vector<Chunk> chunks;
  std::vector<SharedPrefix> prefixes;  // of indices into chunks
  int64_t maxPartials = 1 << 20;
  int walkers = 0;  // blocks that walk the items of 16 rows; 0: a block each
};

// Runs one step. Returns [tokens][numHeads * headDim].
std::vector<Half> runStep(const World& world, const Step& step) {
  const Shape& s = world.shape;
  const int width = s.numHeads * s.headDim, stride = width + 8;
  std::vector<int32_t> queryStart = {0}, contextLens, tables;
  std::vector<Half> q;
  for (const Chunk& chunk : step.chunks) {
    queryStart.push_back(queryStart.back() + chunk.end - chunk.begin);
    contextLens.push_back(chunk.end);
    tables.insert(tables.end(), &world.tables[chunk.sequence * world.maxBlocks],
                  &world.tables[chunk.sequence * world.maxBlocks] + world.maxBlocks);
    for (int p = chunk.begin; p < chunk.end; ++p) {
      const Half* from = &world.queries[chunk.sequence][static_cast<size_t>(p) * width];
      q.insert(q.end(), from, from + width);
      q.insert(q.end(), stride - width, Half{0xFFFF});
    }
  }
  const AttentionPlan plan =
      planAttention({static_cast<int>(step.chunks.size()), queryStart.data(), contextLens.data(), s.numHeads,
                     s.numKvHeads, s.headDim, s.window, step.prefixes, step.maxPartials});
  const int tokens = queryStart.back();
  Buffer<Half> dQ(q), out(static_cast<size_t>(tokens) * stride), pages(world.pages);
  Buffer<int32_t> dTables(tables), itemTokens(plan.itemTokens);
  Buffer<int32_t> counters(std::vector<int32_t>(static_cast<size_t>(tokens) * s.numKvHeads, 0));
  Buffer<AttentionItem> items(plan.items);
  Buffer<AttentionToken> planTokens(plan.tokens);
  Buffer<float> partials(static_cast<size_t>(plan.numPartials) * s.numHeads * (s.headDim + 2));
  for (const AttentionRun& r : plan.runs) {
    const bool walked = step.walkers > 0 && r.tileRows == 16;
    Buffer<int32_t> count(std::vector<int32_t>{r.numItems});
    run(attention({dQ.data(),
                   stride,
                   out.data(),
                   stride,
                   pages.data(),
                   dTables.data(),
                   world.maxBlocks,
                   s.numHeads,
                   s.numKvHeads,
                   s.headDim,
                   1.0f / std::sqrt(static_cast<float>(s.headDim)),
                   s.window,
                   s.softcap,
                   items.data(),
                   r.firstItem,
                   walked ? step.walkers : r.numItems,
                   r.tileRows,
                   itemTokens.data(),
                   planTokens.data(),
                   partials.data(),
                   counters.data(),
                   walked ? count.data() : nullptr},
                  nullptr));
  }
  for (const int32_t c : counters.host()) CHECK(c == 0, "counter %d", c);
  const auto padded = out.host();
  std::vector<Half> rows;
  for (int t = 0; t < tokens; ++t) {
    rows.insert(rows.end(), &padded[static_cast<size_t>(t) * stride],
                &padded[static_cast<size_t>(t) * stride] + width);
    for (int c = width; c < stride; ++c)
      CHECK(padded[static_cast<size_t>(t) * stride + c].bits == 0xFFFF, "gap of row %d", t);
  }
  return rows;
}

// One token in float64: [numHeads * headDim].
void wantToken(const World& world, int sequence, int position, std::vector<double>& want) {
  const Shape& s = world.shape;
  const int group = s.numHeads / s.numKvHeads,
            begin = s.window > 0 ? std::max(0, position - s.window + 1) : 0;
  for (int h = 0; h < s.numHeads; ++h) {
    const Half* q = &world.queries[sequence][(static_cast<size_t>(position) * s.numHeads + h) * s.headDim];
    std::vector<double> p;
    for (int k = begin; k <= position; ++k) {
      const Half* key = &world.pages[world.at(sequence, k, 0, h / group)];
      double score = 0;
      for (int d = 0; d < s.headDim; ++d) score += double{value(q[d])} * value(key[d]);
      score /= std::sqrt(static_cast<double>(s.headDim));
      p.push_back(s.softcap > 0 ? s.softcap * std::tanh(score / s.softcap) : score);
    }
    const double best = *std::max_element(p.begin(), p.end());
    double total = 0;
    for (double& x : p) total += x = std::exp(x - best);
    for (int d = 0; d < s.headDim; ++d) {
      double sum = 0;
      for (int k = begin; k <= position; ++k)
        sum += p[k - begin] * value(world.pages[world.at(sequence, k, 1, h / group) + d]);
      want.push_back(sum / total);
    }
  }
}

void checkStep(const World& world, const Step& step, const char* name) {
  const auto got = runStep(world, step);
  std::vector<double> want;
  for (const Chunk& chunk : step.chunks) {
    for (int p = chunk.begin; p < chunk.end; ++p) wantToken(world, chunk.sequence, p, want);
  }
  const double error = relativeError(got, want);
  CHECK(error < kTolerance, "%s, head dim %d: %g", name, world.shape.headDim, error);
}

TEST(attention_decode_contexts) {
  underSchedules([] {
    const World world({8, 2, 64}, {1, 15, 16, 17, 530});
    checkStep(world, {{{0, 0, 1}, {1, 14, 15}, {2, 15, 16}, {3, 16, 17}, {4, 529, 530}}, {}}, "decode");
  });
}

TEST(attention_every_head_dim) {
  for (const int headDim : {32, 64, 80, 96, 128, 256}) {
    const World world({4, 2, headDim}, {40, 70, 1000});
    checkStep(world, {{{0, 39, 40}, {2, 998, 1000}}, {}}, "decode");
    checkStep(world, {{{1, 0, 70}, {0, 3, 21}}, {}}, "prefill");
  }
}

TEST(attention_group_sizes) {
  for (const auto& [heads, kvHeads] : {std::pair{1, 1}, {7, 1}, {20, 1}, {3, 3}}) {
    const World world({heads, kvHeads, 32}, {600, 9});
    checkStep(world, {{{0, 599, 600}, {1, 4, 9}}, {}}, "decode and verification");
  }
}

TEST(attention_window_and_softcap) {
  for (const int window : {1, 20, 64, 600}) {
    World world({4, 2, 32, window}, {1100});
    checkStep(world, {{{0, 1050, 1100}}, {}}, "prefill in a window");
    world.forget(0, 1099 - window + 1);
    checkStep(world, {{{0, 1099, 1100}}, {}}, "decode in a window");
  }
  const World capped({4, 4, 64, 0, 5.0f}, {90});
  checkStep(capped, {{{0, 60, 90}}, {}}, "softcap");
}

TEST(attention_tall_tiles) {
  // Enough tiles that 128 rows are chosen: 70 KV heads x 2 tiles.
  const World world({140, 70, 32}, {80});
  checkStep(world, {{{0, 0, 80}}, {}}, "128 rows");
}

TEST(attention_shared_prefix) {
  underSchedules([] {
    const World world({4, 2, 32}, {1100, 1030, 1200, 20}, 1024);
    const std::vector<Chunk> chunks = {{0, 1099, 1100}, {1, 1028, 1030}, {2, 1150, 1200}, {3, 19, 20}};
    const auto alone = runStep(world, {chunks, {}});
    const auto shared = runStep(world, {chunks, {{{0, 1, 2}, 1024}}});
    CHECK(sameBits(alone, shared), "prefix sharing changes bits");
  });
  const World world({4, 2, 32}, {1100, 1030}, 1024);
  checkStep(world, {{{0, 1099, 1100}, {1, 1029, 1030}}, {{{0, 1}, 1024}}}, "shared prefix");
  // A member that is still computing the prefix computes it itself.
  checkStep(world, {{{0, 1099, 1100}, {1, 900, 1030}}, {{{0, 1}, 1024}}}, "member within the prefix");
}

TEST(attention_is_invariant_to_chunks_and_batch) {
  for (const int headDim : {64, 256}) {
    const int length = 1090, from = 1024 - 20;
    const World world({4, 1, headDim}, {length, 33});
    const auto whole = runStep(world, {{{0, from, length}}, {}});
    const auto walked =
        runStep(world, {{{0, from, length}}, {}, 0});  // no slots: one item walks all segments
    CHECK(sameBits(whole, walked), "split over segments changes bits");
    std::vector<Half> chunked;
    for (int begin = from, size = 1; begin < length; begin += size, size = size * 2 + 1) {
      const Step step{{{1, 32, 33}, {0, begin, std::min(length, begin + size)}}, {}};
      const auto part = runStep(world, step);
      chunked.insert(chunked.end(), part.begin() + world.shape.numHeads * headDim, part.end());
    }
    CHECK(sameBits(whole, chunked), "head dim %d: chunking changes bits", headDim);
  }
}

TEST(attention_window_is_invariant_to_chunks) {
  const World world({4, 2, 32, 700}, {1500});
  const auto whole = runStep(world, {{{0, 1200, 1299}}, {}});
  std::vector<Half> single;
  for (int p = 1200; p < 1299; p += 9) {
    const int end = p + 9;
    const auto part = runStep(world, {{{0, p, end}}, {}, p % 2 ? 0 : 1 << 20});
    single.insert(single.end(), part.begin(), part.end());
  }
  CHECK(sameBits(whole, single), "chunking changes bits");
}

TEST(attention_decodes_without_room_for_partials) {
  const World world({8, 2, 64}, {1300, 40});
  const std::vector<Chunk> chunks = {{0, 1298, 1300}, {1, 39, 40}};
  const auto split = runStep(world, {chunks, {}});
  CHECK(sameBits(split, runStep(world, {chunks, {}, 0})), "a walk over all segments changes bits");
  const int32_t queryStart[] = {0, 1}, contextLens[] = {5000};
  CHECK(planAttention({1, queryStart, contextLens, 8, 2, 64, 0, {}, 9}).numPartials == 0, "9 slots");
  CHECK(planAttention({1, queryStart, contextLens, 8, 2, 64, 0, {}, 10}).numPartials == 10, "10 slots");
}

TEST(attention_walked_items_are_the_same) {
  const World world({8, 2, 64}, {1300, 40, 600});
  const std::vector<Chunk> chunks = {{0, 1299, 1300}, {1, 39, 40}, {2, 599, 600}};
  const auto expected = runStep(world, {chunks, {}});
  underSchedules([&] {
    for (const int walkers : {1, 2, 3, 50})
      CHECK(sameBits(expected, runStep(world, {chunks, {}, 1 << 20, walkers})), "%d walkers change bits",
            walkers);
  });
}

TEST(attention_has_no_bank_conflicts) {
#if !defined(__CUDACC__)
  sim::counters() = {};
  for (const int headDim : {32, 80, 128, 256}) {
    const World world({4, 2, headDim}, {70});
    runStep(world, {{{0, 69, 70}, {0, 0, 40}}, {}});
  }
  CHECK(sim::counters().ldmatrix > 0 && sim::counters().bankConflicts == 0, "%d conflicts",
        static_cast<int>(sim::counters().bankConflicts));
#endif
}

LONG_TEST(attention_random_batches) {
  for (int round = 0; round < 12; ++round) {
    const int group = 1 + static_cast<int>(generator()() % 8),
              kvHeads = 1 + static_cast<int>(generator()() % 3);
    const int window = round % 3 == 2 ? 1 + static_cast<int>(generator()() % 900) : 0;
    std::vector<int> lengths(4);
    for (int& l : lengths) l = 1 + static_cast<int>(generator()() % 1600);
    const World world({group * kvHeads, kvHeads, 64, window}, lengths);
    Step step;
    for (int s = 0; s < 4; ++s) {
      const int count = std::min(lengths[s], 1 + static_cast<int>(generator()() % (s % 2 ? 90 : 4)));
      step.chunks.push_back({s, lengths[s] - count, lengths[s]});
    }
    checkStep(world, step, "random batch");
  }
}

}  // namespace
}  // namespace octavo::test
