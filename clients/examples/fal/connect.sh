export HTTPS_PROXY="http://$GATEWAY" # GATEWAY=gateway.example.com:8081
export SSL_CERT_FILE=ca.pem          # from connect/ in the data folder
