// Asks about a picture, and writes the answer as it comes: ask cat.png "What is on the sofa?"
#include <idefics2/client.h>

#include <iostream>

int main(int num_arguments, char** arguments) {
  if (num_arguments != 3) {
    std::cerr << "usage: ask PICTURE QUESTION\n";
    return 2;
  }
  try {
    // Where and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY, or target and key of the Options.
    const idefics2::Client client;
    idefics2::Question question({idefics2::Image::file(arguments[1])}, arguments[2]);
    question.temperature = 0;

    idefics2::CallOptions options = idefics2::CallOptions::within(std::chrono::minutes(1));
    options.cancellation.emplace();
    const idefics2::CancelOnSignal interrupt(*options.cancellation);  // Ctrl-C ends the call

    for (const idefics2::Event& event : client.stream(question, options)) {
      std::cout << event.text_delta().text() << std::flush;  // empty for other events
    }
    std::cout << '\n';
  } catch (const idefics2::Error& error) {
    std::cerr << error.what() << " (" << (error.reason().empty() ? error.code_name() : error.reason()) << ")\n";
    return 1;
  }
}
