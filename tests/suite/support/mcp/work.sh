# A tool that counts or wipes orders. It has its call decided, leases a login with the ticket, and uses it. Where it gets
# no login it tries what else there is: no ticket, the ticket of another call, the login of another role. What it is told
# is written to NOTES.
belay() { "$PROGRAM" --addr "$ADDR" --identity "$IDENTITY" -o json "$@" 2>&1; }
of() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
noted() { tee -a "$NOTES"; }
decided() { belay authorize --token "$token" --tool orders --action lease --resource "$1" --ticket; }
leased() { belay lease issue --grant "$GRANT" --backend orders --role "$1" ${2:+--ticket "$2"}; }

reader=app.read-only
case $1 in
count) role=$reader sql='SELECT count(*) FROM orders' ;;
wipe) role=wiper sql='DELETE FROM orders RETURNING item' ;;
esac
token=$(belay token issue --grant "$GRANT" | of token)
ticket=$(decided "$role" | noted | of ticket)
login=$(leased "$role" "$ticket" | noted | of url)
if [ -z "$login" ]; then
    ticket=$(decided "$reader" | of ticket)
    leased "$role" "$ticket" | noted
    leased "$reader" '' | noted
    login=$(leased "$reader" "$ticket" | of url)
fi
"$PSQL" -X -q -A -t -d "${login:-postgresql://nobody@127.0.0.1:1/none}" -c "$sql" 2>&1 | noted
