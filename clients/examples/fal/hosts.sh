export FAL_RUN_HOST="$GATEWAY/run" FAL_QUEUE_RUN_HOST="$GATEWAY/queue" # GATEWAY=gateway.example.com:8443
export SSL_CERT_FILE=ca.pem                                            # who vouches for its certificate
