#include "endpoint.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <initializer_list>
#include <regex>

namespace idefics2::internal {
namespace {

constexpr char kDefaultPort[] = "50051";
constexpr int kMaxPort = 65'535;

/// Without the white space around it.
std::string trim(const std::string& text) {
  constexpr char kWhite[] = " \t\r\n\v\f";
  const auto begin = text.find_first_not_of(kWhite);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kWhite) - begin + 1);
}

std::string read_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Returns the first text that is more than white space.
std::string first_of(std::initializer_list<std::string> texts) {
  for (const std::string& text : texts) {
    if (std::string trimmed = trim(text); !trimmed.empty()) return trimmed;
  }
  return "";
}

std::string usual_port(const std::string& scheme) {
  if (scheme == "http") return "80";
  return scheme == "https" ? "443" : kDefaultPort;
}

[[noreturn]] void refuse(const std::string& field, const std::string& message) {
  throw SettingInvalid(message, {grpc::StatusCode::INVALID_ARGUMENT, "", field, "", {}, {}});
}

bool is_printable(char letter) { return letter >= ' ' && letter <= '~'; }

}  // namespace

Endpoint find_endpoint(const Options& options) {
  static const std::regex kForm(R"(^(?:(grpcs?|https?)://)?(\[[0-9a-f:.]+\]|[^\s/:@?#\[\]]+)(?::(\d{1,5}))?/?$)",
                                std::regex::icase);
  const std::string given = first_of({options.target, read_variable("IDEFICS2_CLIENT_TARGET"), "127.0.0.1:50051"});
  std::smatch parts;
  if (!std::regex_match(given, parts, kForm)) {
    // The target is not shown: it may hold a password.
    refuse("target", "the target must be HOST, HOST:PORT or grpcs://HOST:PORT, and no more");
  }
  std::string scheme = parts[1];
  std::transform(scheme.begin(), scheme.end(), scheme.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool is_secure = !scheme.empty() && scheme.back() == 's';
  if (!scheme.empty() && !is_secure && options.tls) {
    refuse("tls", "the target and the option tls contradict each other");
  }
  const std::string port = first_of({parts[3], usual_port(scheme)});
  if (std::stoi(port) < 1 || std::stoi(port) > kMaxPort) {  // grpc would take another one
    refuse("target", "the target's port must be 1 to " + std::to_string(kMaxPort) + ", not " + port);
  }
  return {parts.str(2) + ":" + port, is_secure || options.tls};
}

std::string find_key(const std::string& given) {
  // What clients of the hosted endpoint call a key. No key of this service holds a colon.
  static const std::regex kWithColon("^([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)$");
  const std::string key = first_of({given, read_variable("IDEFICS2_API_KEY"), read_variable("FAL_KEY")});
  if (!std::all_of(key.begin(), key.end(), is_printable)) {
    throw AuthenticationFailed("the API key must be printable ASCII",
                               {grpc::StatusCode::UNAUTHENTICATED, "API_KEY_INVALID", "", "", {}, {}});
  }
  return std::regex_replace(key, kWithColon, "$1.$2");
}

}  // namespace idefics2::internal
