#include "names.h"

#include <algorithm>
#include <iterator>
#include <random>

#include "texts.h"

namespace idefics2::internal {
namespace {

constexpr std::size_t kMaxNameBytes = 255;

/// Characters that show nothing, which the service refuses in names: controls, marks of direction, separators of lines,
/// joiners, and what is private.
constexpr struct {
  char32_t first;
  char32_t last;
} kHidden[] = {{0, 0x1f},          {0x7f, 0x9f},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
               {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},     {0x180e, 0x180e},
               {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},   {0xe000, 0xf8ff},   {0xfdd0, 0xfdef},
               {0xfeff, 0xfeff},   {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
               {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe00ff}, {0xf0000, 0x10ffff}};

bool is_hidden(char32_t point) {
  return std::any_of(std::begin(kHidden), std::end(kHidden),
                     [point](const auto& range) { return point >= range.first && point <= range.last; });
}

}  // namespace

std::string make_name() {
  constexpr char kDigits[] = "0123456789abcdef";
  std::random_device random;
  std::uniform_int_distribution<int> digits(0, 15);
  std::string name(32, '0');
  std::generate(name.begin(), name.end(), [&] { return kDigits[digits(random)]; });
  return name;
}

std::string clean_name(std::string_view name) {
  std::string cleaned;
  while (!name.empty()) {
    const auto letter = read_letter(name);
    const std::size_t num_bytes = letter ? letter->num_bytes : 1;
    if (letter && !is_hidden(letter->point)) {
      if (cleaned.size() + num_bytes > kMaxNameBytes) break;
      cleaned += name.substr(0, num_bytes);
    }
    name.remove_prefix(num_bytes);
  }
  return cleaned;
}

}  // namespace idefics2::internal
