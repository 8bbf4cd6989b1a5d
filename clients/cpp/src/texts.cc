#include "texts.h"

#include <vector>

#include "idefics2/error.h"

namespace idefics2::internal {

std::optional<Letter> read_letter(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  if (lead < 0x80) return Letter{lead, 1};
  if (lead < 0xc2 || lead > 0xf4) return std::nullopt;
  const std::size_t num_bytes = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() < num_bytes) return std::nullopt;
  char32_t point = lead & (0x7fU >> num_bytes);
  for (std::size_t i = 1; i < num_bytes; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0U) != 0x80) return std::nullopt;
    point = point << 6U | (byte & 0x3fU);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool is_surrogate = point >= 0xd800 && point <= 0xdfff;
  if (point < kLeast[num_bytes] || point > 0x10ffff || is_surrogate) return std::nullopt;
  return Letter{point, num_bytes};
}

void check_text(const std::string& field, std::string_view text) {
  while (!text.empty()) {
    const auto letter = read_letter(text);
    if (!letter) {
      throw InvalidRequest(field + " must be valid UTF-8",
                           {grpc::StatusCode::INVALID_ARGUMENT, "TEXT_NOT_UNICODE", field, "", {}, {}});
    }
    text.remove_prefix(letter->num_bytes);
  }
}

void check_texts(const google::protobuf::Message& message) {
  const auto& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const auto* field : fields) {
    if (field->type() != google::protobuf::FieldDescriptor::TYPE_STRING) continue;
    const int num_texts = field->is_repeated() ? reflection.FieldSize(message, field) : 0;
    for (int i = 0; i < num_texts; ++i) check_text(field->name(), reflection.GetRepeatedString(message, field, i));
    if (!field->is_repeated()) check_text(field->name(), reflection.GetString(message, field));
  }
}

}  // namespace idefics2::internal
