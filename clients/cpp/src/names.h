#pragma once

#include <string>
#include <string_view>

namespace idefics2::internal {

/// Makes a name that no other request has.
std::string make_name();

/// Makes a name of a file one that the service takes.
std::string clean_name(std::string_view name);

}  // namespace idefics2::internal
