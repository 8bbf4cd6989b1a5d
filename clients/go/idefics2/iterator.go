package idefics2

import "io"

// Iterator yields one thing after the other:
//
//	for events.Next() {
//		event := events.Value()
//	}
//	if err := events.Err(); err != nil {
//
// Who leaves the loop before its end must call Close, or end the context.
type Iterator[T any] struct {
	next  func() (T, error) // io.EOF at the end
	stop  func()
	value T
	err   error
	ended bool
}

// failed makes an iterator that ends with an error at once.
func failed[T any](err error) *Iterator[T] {
	return &Iterator[T]{err: err, ended: true}
}

// Next waits for the next value, and tells whether there is one.
func (i *Iterator[T]) Next() bool {
	if i.ended {
		return false
	}
	value, err := i.next()
	if err == nil {
		i.value = value
		return true
	}
	if err != io.EOF {
		i.err = err
	}
	i.Close()
	return false
}

// Value returns what Next waited for.
func (i *Iterator[T]) Value() T {
	return i.value
}

// Err tells why there is no more; nil at the end, and for who has left.
func (i *Iterator[T]) Err() error {
	return i.err
}

// Close cancels what still runs. It may be called more than once.
func (i *Iterator[T]) Close() {
	if !i.ended {
		i.ended = true
		i.stop()
	}
}

// All lets a for statement of Go 1.23 or later range over the values and, last, an error if there is one.
func (i *Iterator[T]) All() func(yield func(T, error) bool) {
	return func(yield func(T, error) bool) {
		defer i.Close()
		for i.Next() {
			if !yield(i.value, nil) {
				return
			}
		}
		if i.err != nil {
			var none T
			yield(none, i.err)
		}
	}
}
