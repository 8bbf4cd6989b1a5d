// Makes the calls of contract vectors: a line of JSON in, one out; see clients/vectors/README.md.
#include <iostream>
#include <string>

#include "vector_calls.h"

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << vectors::perform(nlohmann::json::parse(line)).dump() << std::endl;
  }
}
