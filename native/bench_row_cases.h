// The ops at either end of a forward pass: rows of the embedding, rows whose logits are wanted, logits.
#pragma once
#include <memory>

#include "bench_cases.h"

namespace octavo {

// embed, gather_rows or softcap; null for any other op.
std::unique_ptr<OpCase> makeRowCase(Device& device, const OpBenchSpec& spec, int32_t maxRows);

}  // namespace octavo
