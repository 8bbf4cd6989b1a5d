#pragma once

#include <nlohmann/json.hpp>

namespace vectors {

/// Makes a call with a client of its own, and writes what came of it.
nlohmann::json perform(const nlohmann::json& call);

}  // namespace vectors
