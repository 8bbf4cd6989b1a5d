/** Ask Idefics2 about images, over gRPC: begin at {@link idefics2.client.Idefics2Client}. */
package idefics2.client;
