#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "idefics2/cancellation.h"
#include "operation.h"

namespace idefics2 {

struct Cancellation::State {
  std::mutex mutex;
  bool is_cancelled = false;
  std::vector<std::weak_ptr<internal::Operation>> operations;

  /// Ends the operation with the others, at once if they are ended already.
  void bind(const std::shared_ptr<internal::Operation>& operation);
};

}  // namespace idefics2
