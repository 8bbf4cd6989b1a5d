/// Texts as the wire wants them: UTF-8.
#pragma once

#include <google/protobuf/message.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace idefics2::internal {

struct Letter {
  char32_t point;
  std::size_t num_bytes;
};

/// Reads the first character of a text that is not empty; none where it is no UTF-8.
std::optional<Letter> read_letter(std::string_view text);

/// Fails with InvalidRequest where it is no UTF-8.
void check_text(const std::string& field, std::string_view text);

/// Checks the texts that a message holds itself.
void check_texts(const google::protobuf::Message& message);

}  // namespace idefics2::internal
