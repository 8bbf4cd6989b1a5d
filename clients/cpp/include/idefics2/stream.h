#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

namespace idefics2 {

namespace internal {

/// Where what comes one after the other comes from.
template <class T>
class Source {
 public:
  virtual ~Source() = default;
  /// Waits for the next one; none: that was all.
  virtual std::optional<T> read() = 0;
  /// Ends a `read` of another thread, and all that follow.
  virtual void cancel() = 0;
};

}  // namespace internal

/// What comes one after the other, as it comes. To be read by one thread, once, by `next` or by a for statement; any
/// thread may cancel it. It ends the call if it goes out of scope before its end. It outlives its client.
template <class T>
class Stream {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = T*;
    using reference = T&;

    iterator() = default;
    explicit iterator(Stream* stream) : stream_(stream) { ++*this; }

    reference operator*() const { return *stream_->current_; }
    pointer operator->() const { return &*stream_->current_; }
    iterator& operator++() {
      stream_->current_ = stream_->next();
      if (!stream_->current_) stream_ = nullptr;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(const iterator& other) const { return stream_ == other.stream_; }
    bool operator!=(const iterator& other) const { return stream_ != other.stream_; }

   private:
    Stream* stream_ = nullptr;  // none: the end
  };

  explicit Stream(std::unique_ptr<internal::Source<T>> source) : source_(std::move(source)) {}

  /// Waits for the next one; none: that was all. Fails with what kept it from coming, and then has no more.
  std::optional<T> next() {
    if (is_over_ || !source_) return std::nullopt;
    is_over_ = true;  // for whatever the source throws
    std::optional<T> item = source_->read();
    is_over_ = !item;
    return item;
  }

  /// Ends the call: who waits for it gets Cancelled.
  void cancel() {
    if (source_) source_->cancel();
  }

  iterator begin() { return iterator(this); }
  iterator end() { return iterator(); }

 private:
  std::unique_ptr<internal::Source<T>> source_;  // none: it was moved from
  std::optional<T> current_;
  bool is_over_ = false;
};

}  // namespace idefics2
