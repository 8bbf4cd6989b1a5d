package idefics2

import (
	"crypto/tls"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

const (
	defaultPort   = "50051"
	defaultTarget = "127.0.0.1:" + defaultPort
)

var (
	targetForm = regexp.MustCompile(
		`^(?:((?i)grpcs?|https?)://)?(\[[0-9A-Fa-f:.]+\]|[^\s/:@?#\[\]]+)(?::(\d{1,5}))?/?$`)
	printable = regexp.MustCompile(`^[\x20-\x7e]*$`)
	// keyWithColon is what clients of the hosted endpoint call a key. No key of this service holds a colon.
	keyWithColon = regexp.MustCompile(`^([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)$`)
)

// endpoint is where a service is.
type endpoint struct {
	target string      // host:port
	tls    *tls.Config // nil: none
}

// findEndpoint reads `host`, `host:port` or a URL; else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
func findEndpoint(target string, config *tls.Config) (endpoint, error) {
	parts := targetForm.FindStringSubmatch(firstOf(target, os.Getenv("IDEFICS2_CLIENT_TARGET"), defaultTarget))
	if parts == nil {
		// The target is not shown: it may hold a password.
		return endpoint{}, refuseSetting("target", "the target must be HOST, HOST:PORT or grpcs://HOST:PORT, and no more")
	}
	scheme, host, port := strings.ToLower(parts[1]), parts[2], parts[3]
	isSecure := strings.HasSuffix(scheme, "s")
	if scheme != "" && config != nil && !isSecure {
		return endpoint{}, refuseSetting("tls", "the target and WithTLS contradict each other")
	}
	if isSecure && config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if number, _ := strconv.Atoi(port); port != "" && (number < 1 || number > math.MaxUint16) {
		return endpoint{}, refuseSetting("target", "the target's port must be 1 to 65535, not "+port)
	}
	return endpoint{target: host + ":" + firstOf(port, usualPort(scheme)), tls: config}, nil
}

// findKey returns the first key of: what is given, IDEFICS2_API_KEY, FAL_KEY; empty if there is none.
func findKey(given string) (string, error) {
	key := firstOf(given, os.Getenv("IDEFICS2_API_KEY"), os.Getenv("FAL_KEY"))
	if !printable.MatchString(key) {
		return "", &Error{
			Code: codes.Unauthenticated, Reason: ReasonAPIKeyInvalid, Message: "the API key must be printable ASCII",
		}
	}
	return keyWithColon.ReplaceAllString(key, "$1.$2"), nil
}

func usualPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return defaultPort
}

// firstOf returns the first text that is more than white space, without the white space around it.
func firstOf(texts ...string) string {
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			return text
		}
	}
	return ""
}

func refuseSetting(field, message string) *Error {
	return &Error{Code: codes.InvalidArgument, Field: field, Message: message, kind: ErrSettingInvalid}
}
