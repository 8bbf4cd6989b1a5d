package idefics2.client;

/**
 * How far an upload or a download is.
 *
 * @param numBytes how many bytes are over, those that were there before included
 */
public record Transfer(long numBytes, long sizeBytes) {}
