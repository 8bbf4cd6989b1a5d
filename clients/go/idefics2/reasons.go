package idefics2

// Reason is why the service refused or failed: the name of a value of the proto's ErrorReason, whose comment says more.
// A newer service may send one that is not here. It is an error only so that errors.Is takes it:
//
//	if errors.Is(err, idefics2.ReasonQueueFull) {
type Reason string

// Error returns the name.
func (r Reason) Error() string {
	return string(r)
}

// Reasons that there are.
const (
	ReasonRequestMalformed        Reason = "REQUEST_MALFORMED"
	ReasonTextNotUnicode          Reason = "TEXT_NOT_UNICODE"
	ReasonValueOutOfRange         Reason = "VALUE_OUT_OF_RANGE"
	ReasonPromptMissing           Reason = "PROMPT_MISSING"
	ReasonPromptTooLarge          Reason = "PROMPT_TOO_LARGE"
	ReasonPromptHasSpecialToken   Reason = "PROMPT_HAS_SPECIAL_TOKEN"
	ReasonContextExceeded         Reason = "CONTEXT_EXCEEDED"
	ReasonRequestIDInvalid        Reason = "REQUEST_ID_INVALID"
	ReasonPageTokenInvalid        Reason = "PAGE_TOKEN_INVALID"
	ReasonWebhookURLInvalid       Reason = "WEBHOOK_URL_INVALID"
	ReasonPayloadTooLarge         Reason = "PAYLOAD_TOO_LARGE"
	ReasonImageMissing            Reason = "IMAGE_MISSING"
	ReasonFileEmpty               Reason = "FILE_EMPTY"
	ReasonFileTooLarge            Reason = "FILE_TOO_LARGE"
	ReasonFileNotAnImage          Reason = "FILE_NOT_AN_IMAGE"
	ReasonFileUndecodable         Reason = "FILE_UNDECODABLE"
	ReasonFileTooManyPixels       Reason = "FILE_TOO_MANY_PIXELS"
	ReasonFileDataURIInvalid      Reason = "FILE_DATA_URI_INVALID"
	ReasonFileURLUnsupported      Reason = "FILE_URL_UNSUPPORTED"
	ReasonFileURLInvalid          Reason = "FILE_URL_INVALID"
	ReasonFileURLForbidden        Reason = "FILE_URL_FORBIDDEN"
	ReasonFileNotFound            Reason = "FILE_NOT_FOUND"
	ReasonFileBlocked             Reason = "FILE_BLOCKED"
	ReasonFileRateLimited         Reason = "FILE_RATE_LIMITED"
	ReasonFileUnreachable         Reason = "FILE_UNREACHABLE"
	ReasonFileTooSlow             Reason = "FILE_TOO_SLOW"
	ReasonFileNotUploaded         Reason = "FILE_NOT_UPLOADED"
	ReasonUploadNotFound          Reason = "UPLOAD_NOT_FOUND"
	ReasonFileMismatch            Reason = "FILE_MISMATCH"
	ReasonFileDigestInvalid       Reason = "FILE_DIGEST_INVALID"
	ReasonFileStoreUnavailable    Reason = "FILE_STORE_UNAVAILABLE"
	ReasonUploadPartMissing       Reason = "UPLOAD_PART_MISSING"
	ReasonFileAlreadyComplete     Reason = "FILE_ALREADY_COMPLETE"
	ReasonAPIKeyMissing           Reason = "API_KEY_MISSING"
	ReasonAPIKeyInvalid           Reason = "API_KEY_INVALID"
	ReasonAPIKeyRevoked           Reason = "API_KEY_REVOKED"
	ReasonAPIKeyExpired           Reason = "API_KEY_EXPIRED"
	ReasonFaceNotAllowed          Reason = "FACE_NOT_ALLOWED"
	ReasonAppNotAllowed           Reason = "APP_NOT_ALLOWED"
	ReasonQueueFull               Reason = "QUEUE_FULL"
	ReasonRateLimited             Reason = "RATE_LIMITED"
	ReasonConcurrencyExceeded     Reason = "CONCURRENCY_EXCEEDED"
	ReasonQueueQuotaExceeded      Reason = "QUEUE_QUOTA_EXCEEDED"
	ReasonFileQuotaExceeded       Reason = "FILE_QUOTA_EXCEEDED"
	ReasonCallsFull               Reason = "CALLS_FULL"
	ReasonMemoryFull              Reason = "MEMORY_FULL"
	ReasonRequestCancelled        Reason = "REQUEST_CANCELLED"
	ReasonRequestDeadlineExceeded Reason = "REQUEST_DEADLINE_EXCEEDED"
	ReasonStartTimeout            Reason = "START_TIMEOUT"
	ReasonReaderStalled           Reason = "READER_STALLED"
	ReasonSenderStalled           Reason = "SENDER_STALLED"
	ReasonRequestNotFound         Reason = "REQUEST_NOT_FOUND"
	ReasonRequestIDTaken          Reason = "REQUEST_ID_TAKEN"
	ReasonRequestNotFinished      Reason = "REQUEST_NOT_FINISHED"
	ReasonBackendUnavailable      Reason = "BACKEND_UNAVAILABLE"
	ReasonServiceStopping         Reason = "SERVICE_STOPPING"
	ReasonStoreUnavailable        Reason = "STORE_UNAVAILABLE"
	ReasonAttemptsExhausted       Reason = "ATTEMPTS_EXHAUSTED"
	ReasonAttemptLost             Reason = "ATTEMPT_LOST"
	ReasonMethodUnknown           Reason = "METHOD_UNKNOWN"
	ReasonInternalError           Reason = "INTERNAL_ERROR"
)
