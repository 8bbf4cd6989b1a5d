package idefics2

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
)

// Option is what may be said of a client.
type Option func(*options)

type options struct {
	key     string
	tls     *tls.Config
	timeout time.Duration
	retries Retries
	spreads bool
	dial    []grpc.DialOption
}

// WithKey gives the key, `<id>.<secret>`. Default: IDEFICS2_API_KEY, else FAL_KEY, else calls have none.
func WithKey(key string) Option {
	return func(o *options) { o.key = key }
}

// WithTLS connects by TLS, and says how. Default: as the target says, with the system's authorities.
func WithTLS(config *tls.Config) Option {
	return func(o *options) { o.tls = config.Clone() }
}

// WithTimeout bounds each call whose context has no deadline; below 0, it has passed already. Default, and 0: such a call
// may take for ever.
func WithTimeout(timeout time.Duration) Option {
	return func(o *options) { o.timeout = timeout }
}

// WithRetries says how lost connections are tried again.
func WithRetries(retries Retries) Option {
	return func(o *options) { o.retries = retries }
}

// WithSpread spreads calls over all addresses of the target's name, in turn. This process looks them up itself: again where
// a connection is lost, but not within 30 s of the last time. No proxy is used. Default: one connection, to the first
// address that answers, or through the environment's proxy, and the name is looked up for each connection.
func WithSpread() Option {
	return func(o *options) { o.spreads = true }
}

// WithDialOptions hands options to the channel below, such as interceptors that trace calls.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}
